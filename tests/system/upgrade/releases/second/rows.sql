-- The rows of a database that the first release has worked with.

insert into tenants (id, name, status, plan_id, features, status_since) values
    ('acme', 'Acme', 'active', 'standard', '{}', '2026-01-01 00:00+00'),
    ('globex', 'Globex', 'active', 'enterprise', '{}', '2026-01-01 00:00+00'),
    ('trying', 'Trying', 'trial', 'free', '{}', '2026-01-01 00:00+00');
update tenants set trial_ends_at = '2026-02-01 00:00+00' where id = 'trying';

insert into ticks (job, tick, nominal_time, workflow_id, run_id, started_at, planned_at, state)
values
    ('billing.cycle', '2026-01', '2026-02-01 06:00+00', 'platform/billing.cycle/tick', 'r1',
     '2026-02-01 06:00+00', '2026-02-01 06:01+00', 'running');
insert into ledger (job, tick, tenant_id, state, workflow_id, run_id, planned_by, planned_at, due_at)
values
    ('billing.cycle', '2026-01', 'acme', 'running', 'acme/billing.cycle/2026-01', 'r2',
     'platform/billing.cycle/tick', '2026-02-01 06:00+00', '2026-02-01 06:00+00'),
    ('billing.cycle', '2026-01', 'globex', 'planned', null, null,
     'platform/billing.cycle/tick', '2026-02-01 06:00+00', '2026-02-01 06:00+00');
insert into server_checks (name, holds, message, checked_at)
values ('fairness of default', true, 'it is on', '2026-01-01 00:00+00');
insert into admission (tenant_id, paused_since, paused_reason, concurrency_cap)
values ('globex', null, null, 5);
insert into in_flight (tenant_id, workflow_id, since, checked_at) values
    ('globex', 'globex/mail.send/1', '2026-01-01 00:00+00', '2026-01-01 00:00+00'),
    ('globex', 'globex/mail.send/2', '2026-01-01 00:00+00', '2026-01-01 00:00+00');
insert into positions (name, upto) values ('dead_letters.sweep', '2026-01-01 00:00+00');
insert into alerts (name, sent_at, suppressed)
values ('dead_letter.0123456789abcdef', '2026-01-01 00:00+00', 3);
insert into api_keys (id, tenant_id, name, digest, prefix, created_at) values
    ('019b7000-0000-7000-8000-0000000000f1', 'acme', 'ci', sha256('one'), 'tk_one',
     '2026-01-01 00:00+00'),
    ('019b7000-0000-7000-8000-0000000000f2', 'acme', 'old', sha256('two'), 'tk_two',
     '2026-01-01 00:00+00');

-- Messages in every state. A block of ten for each use that a role makes of them.
insert into outbox_messages (
    tenant_id, id, job, key, payload, priority, status, scheduled_at, dequeued_at, attempts,
    last_attempt_at, lease_until, completed_at, workflow_id, error_type, error_message,
    correlation_id, created_at
) values
    ('acme', '019b7000-0000-7000-8000-000000000001', 'mail.send', 'due-1', '{"n": 1}', 3, 'pending',
     '2026-01-01 00:00+00', null, 0, null, null, null, null, null, null, 'order-1',
     '2026-01-01 00:00+00'),
    ('acme', '019b7000-0000-7000-8000-000000000002', 'mail.send', 'due-2', '{"n": 2}', 1, 'failed',
     '2026-01-01 00:00+00', '2026-01-01 00:00+00', 2, '2026-01-01 00:00+00', null, null, null,
     'MailboxFull', 'the mailbox is full.', null, '2026-01-01 00:00+00'),
    ('globex', '019b7000-0000-7000-8000-000000000003', 'mail.send', 'due-1', '{"n": 1}', 3,
     'pending', '2026-01-01 00:00+00', null, 0, null, null, null, null, null, null, null,
     '2026-01-01 00:00+00'),
    ('globex', '019b7000-0000-7000-8000-000000000004', 'mail.send', 'due-2', '{"n": 2}', 3,
     'pending', '2026-01-01 00:00+00', null, 0, null, null, null, null, null, null, null,
     '2026-01-01 00:00+00'),
    ('globex', '019b7000-0000-7000-8000-000000000005', 'mail.send', 'later', '{}', 3, 'pending',
     '2099-01-01 00:00+00', null, 0, null, null, null, null, null, null, null,
     '2026-01-01 00:00+00'),
    -- claimed by a relay that died
    ('acme', '019b7000-0000-7000-8000-000000000011', 'mail.send', 'lost-1', '{}', 3, 'processing',
     '2026-01-01 00:00+00', '2026-01-01 00:00+00', 1, '2026-01-01 00:00+00', '2026-01-01 00:01+00',
     null, null, null, null, null, '2026-01-01 00:00+00'),
    -- worked off by a workflow that the relay asks after
    ('acme', '019b7000-0000-7000-8000-000000000012', 'mail.send', 'lost-2', '{}', 3, 'processing',
     '2026-01-01 00:00+00', '2026-01-01 00:00+00', 1, '2026-01-01 00:00+00', '2026-01-01 00:02+00',
     null, 'acme/mail.send/messages-0', null, null, null, '2026-01-01 00:00+00'),
    -- worked off by a workflow, in a tenant's worker
    ('acme', '019b7000-0000-7000-8000-000000000021', 'mail.send', 'work-1', '{"n": 1}', 3,
     'processing', '2026-01-01 00:00+00', '2026-01-01 00:00+00', 1, '2026-01-01 00:00+00',
     '2099-01-01 00:00+00', null, 'acme/mail.send/messages-1', null, null, null,
     '2026-01-01 00:00+00'),
    ('acme', '019b7000-0000-7000-8000-000000000022', 'mail.send', 'work-2', '{"n": 2}', 3,
     'processing', '2026-01-01 00:00+00', '2026-01-01 00:00+00', 1, '2026-01-01 00:00+00',
     '2099-01-01 00:00+00', null, 'acme/mail.send/messages-1', null, null, null,
     '2026-01-01 00:00+00'),
    ('acme', '019b7000-0000-7000-8000-000000000023', 'mail.send', 'work-3', '{"n": 3}', 3,
     'processing', '2026-01-01 00:00+00', '2026-01-01 00:00+00', 5, '2026-01-01 00:00+00',
     '2099-01-01 00:00+00', null, 'acme/mail.send/messages-1', null, null, null,
     '2026-01-01 00:00+00'),
    -- done with long ago
    ('globex', '019b7000-0000-7000-8000-000000000031', 'mail.send', 'done-1', '{}', 3, 'completed',
     '2026-01-01 00:00+00', '2026-01-01 00:00+00', 1, '2026-01-01 00:00+00', null,
     '2026-01-01 00:00+00', null, null, null, null, '2026-01-01 00:00+00'),
    -- inputs of dead letters
    ('acme', '019b7000-0000-7000-8000-000000000041', 'mail.send', 'dead-1', '{"n": 1}', 3,
     'dead_letter', '2026-01-01 00:00+00', '2026-01-01 00:00+00', 5, '2026-01-01 00:00+00', null,
     null, null, 'MailboxFull', 'the mailbox is full.', null, '2026-01-01 00:00+00'),
    ('acme', '019b7000-0000-7000-8000-000000000042', 'mail.send', 'dead-2', '{"n": 2}', 3,
     'dead_letter', '2026-01-01 00:00+00', '2026-01-01 00:00+00', 5, '2026-01-01 00:00+00', null,
     null, null, 'MailboxFull', 'the mailbox is full.', null, '2026-01-01 00:00+00');

insert into dead_letters (
    tenant_id, id, job, source, workflow_id, run_id, message_id, error_type, message, fingerprint,
    attempts, failed_at, recorded_at, status, replays, handled_at, handled_by, told_at
) values
    ('acme', '019b7000-0000-7000-8000-000000000051', 'mail.send', 'relay', 'acme/mail.send/dead-1',
     null, '019b7000-0000-7000-8000-000000000041', 'MailboxFull', 'the mailbox is full.',
     '0123456789abcdef', 5, '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'open', 0, null, null,
     null),
    ('acme', '019b7000-0000-7000-8000-000000000052', 'mail.send', 'message',
     'acme/mail.send/dead-2', null, '019b7000-0000-7000-8000-000000000042', 'MailboxFull',
     'the mailbox is full.', '0123456789abcdef', 5, '2026-01-01 00:00+00', '2026-01-01 00:00+00',
     'replayed', 1, '2026-01-02 00:00+00', 'ada', '2026-01-01 00:01+00'),
    ('acme', '019b7000-0000-7000-8000-000000000053', 'billing.cycle', 'workflow',
     'acme/billing.cycle/2025-12', 'r5', null, 'UsageNotBillable', 'an event is wrong.',
     'fedcba9876543210', 1, '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'open', 0, null, null,
     '2026-01-01 00:01+00'),
    ('globex', '019b7000-0000-7000-8000-000000000054', 'billing.cycle', 'workflow',
     'globex/billing.cycle/2025-12', 'r6', null, 'UsageNotBillable', 'an event is wrong.',
     'fedcba9876543210', 1, '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'discarded', 0,
     '2026-01-02 00:00+00', 'ada', '2026-01-01 00:01+00');

insert into processed_events (tenant_id, consumer, event_id, processed_at) values
    ('acme', 'mail.send', 'old', '2026-01-01 00:00+00'),
    ('acme', 'mail.send', 'known', now()),
    ('globex', 'mail.send', 'known', now());
