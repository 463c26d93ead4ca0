SET check_function_bodies = false;
CREATE FUNCTION public.key_from_id() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        begin
            new.key := new.id::text;
            return new;
        end $$;
CREATE FUNCTION public.refuse_write() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        begin
            raise insufficient_privilege using message = format(
                '%s may not write this to %s: %s', current_user, tg_table_name, tg_argv[0]
            );
        end $$;
CREATE TABLE public.admission (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    paused_since timestamp with time zone,
    paused_reason text,
    concurrency_cap integer,
    CONSTRAINT ck_admission_concurrency_cap CHECK ((concurrency_cap >= 1))
);
CREATE TABLE public.alerts (
    name text NOT NULL,
    sent_at timestamp with time zone NOT NULL,
    suppressed integer DEFAULT 0 NOT NULL
);
CREATE TABLE public.api_keys (
    id uuid DEFAULT uuidv7() NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    digest bytea NOT NULL,
    prefix text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT ck_api_keys_digest CHECK ((length(digest) = 32))
);
CREATE TABLE public.audit_daily (
    tenant_id text NOT NULL,
    day date NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    entries integer NOT NULL,
    computed_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.audit_daily FORCE ROW LEVEL SECURITY;
CREATE TABLE public.audit_entries (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    details jsonb NOT NULL
);
ALTER TABLE ONLY public.audit_entries FORCE ROW LEVEL SECURITY;
CREATE TABLE public.contacts (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    email text NOT NULL,
    name text,
    phone text,
    company text,
    country text,
    attributes jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.contacts FORCE ROW LEVEL SECURITY;
CREATE TABLE public.control_plane_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.daily_usage (
    tenant_id text NOT NULL,
    day date NOT NULL,
    events integer NOT NULL,
    cancelled integer NOT NULL,
    distance bigint NOT NULL,
    air_time bigint NOT NULL,
    computed_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.daily_usage FORCE ROW LEVEL SECURITY;
CREATE TABLE public.dead_letters (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id uuid DEFAULT uuidv7() NOT NULL,
    job text NOT NULL,
    source text NOT NULL,
    workflow_id text NOT NULL,
    run_id text,
    message_id uuid,
    error_type text NOT NULL,
    message text NOT NULL,
    fingerprint text NOT NULL,
    attempts integer NOT NULL,
    failed_at timestamp with time zone DEFAULT now() NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    status text DEFAULT 'open'::text NOT NULL,
    replays integer DEFAULT 0 NOT NULL,
    handled_at timestamp with time zone,
    handled_by text,
    replay_run_id text,
    told_at timestamp with time zone,
    CONSTRAINT ck_dead_letters_fingerprint CHECK ((fingerprint ~ '^[0-9a-f]{16}$'::text)),
    CONSTRAINT ck_dead_letters_owner CHECK (starts_with(workflow_id, (((tenant_id || '/'::text) || job) || '/'::text))),
    CONSTRAINT ck_dead_letters_sizes CHECK (((char_length(job) <= 1000) AND (char_length(source) <= 1000) AND (char_length(workflow_id) <= 1000) AND (char_length(run_id) <= 1000) AND (char_length(error_type) <= 1000) AND (char_length(message) <= 1000))),
    CONSTRAINT ck_dead_letters_status CHECK ((status = ANY (ARRAY['open'::text, 'replayed'::text, 'resolved'::text, 'discarded'::text]))),
    CONSTRAINT ck_dead_letters_times CHECK ((((failed_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (failed_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((recorded_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (recorded_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((handled_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (handled_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((told_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (told_at <= '9999-01-01 00:00:00+00'::timestamp with time zone))))
);
ALTER TABLE ONLY public.dead_letters FORCE ROW LEVEL SECURITY;
CREATE TABLE public.documents (
    tenant_id text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    content jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone
);
ALTER TABLE ONLY public.documents FORCE ROW LEVEL SECURITY;
CREATE TABLE public.exports (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    dataset text NOT NULL,
    format text NOT NULL,
    status text DEFAULT 'requested'::text NOT NULL,
    path text,
    rows bigint,
    bytes bigint,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    completed_at timestamp with time zone,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_exports_dataset CHECK ((dataset = ANY (ARRAY['contacts'::text, 'invoices'::text, 'usage_events'::text]))),
    CONSTRAINT ck_exports_format CHECK ((format = ANY (ARRAY['csv'::text, 'parquet'::text]))),
    CONSTRAINT ck_exports_status CHECK ((status = ANY (ARRAY['requested'::text, 'completed'::text, 'failed'::text])))
);
ALTER TABLE ONLY public.exports FORCE ROW LEVEL SECURITY;
CREATE TABLE public.external_records (
    tenant_id text NOT NULL,
    integration_id uuid NOT NULL,
    external_id text NOT NULL,
    data jsonb NOT NULL,
    synced_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.external_records FORCE ROW LEVEL SECURITY;
CREATE TABLE public.import_rejected_rows (
    tenant_id text NOT NULL,
    import_id uuid NOT NULL,
    "row" bigint NOT NULL,
    line bigint NOT NULL,
    reason text NOT NULL,
    cells jsonb NOT NULL
);
ALTER TABLE ONLY public.import_rejected_rows FORCE ROW LEVEL SECURITY;
CREATE TABLE public.import_seen_emails (
    tenant_id text NOT NULL,
    import_id uuid NOT NULL,
    email text NOT NULL
);
ALTER TABLE ONLY public.import_seen_emails FORCE ROW LEVEL SECURITY;
CREATE TABLE public.imports (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    file_name text NOT NULL,
    path text NOT NULL,
    size bigint NOT NULL,
    encoding text NOT NULL,
    dry_run boolean NOT NULL,
    started_by text NOT NULL,
    status text DEFAULT 'processing'::text NOT NULL,
    "position" bigint NOT NULL,
    line bigint DEFAULT 0 NOT NULL,
    delimiter text,
    columns jsonb,
    imported bigint DEFAULT 0 NOT NULL,
    updated bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    error text,
    error_file text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    error_type text,
    reading jsonb,
    CONSTRAINT ck_imports_status CHECK ((status = ANY (ARRAY['processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
);
ALTER TABLE ONLY public.imports FORCE ROW LEVEL SECURITY;
CREATE TABLE public.in_flight (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    workflow_id text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    checked_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.integrations (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    cursor text,
    status text DEFAULT 'never'::text NOT NULL,
    last_synced_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_integrations_name CHECK ((name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text)),
    CONSTRAINT ck_integrations_status CHECK ((status = ANY (ARRAY['never'::text, 'syncing'::text, 'synced'::text, 'failed'::text])))
);
ALTER TABLE ONLY public.integrations FORCE ROW LEVEL SECURITY;
CREATE TABLE public.invoice_lines (
    tenant_id text NOT NULL,
    period text NOT NULL,
    rate text NOT NULL,
    quantity bigint NOT NULL,
    unit_price_micros bigint NOT NULL,
    amount_cents bigint NOT NULL
);
ALTER TABLE ONLY public.invoice_lines FORCE ROW LEVEL SECURITY;
CREATE TABLE public.invoices (
    tenant_id text NOT NULL,
    period text NOT NULL,
    currency text NOT NULL,
    total_cents bigint NOT NULL,
    usage_events integer NOT NULL,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL,
    issued_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_invoices_period CHECK ((period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'::text))
);
ALTER TABLE ONLY public.invoices FORCE ROW LEVEL SECURITY;
CREATE TABLE public.ledger (
    job text NOT NULL,
    tick text NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL,
    reason text,
    error_type text,
    workflow_id text,
    run_id text,
    attempts integer DEFAULT 0 NOT NULL,
    planned_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    planned_by text,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_ledger_state CHECK ((state = ANY (ARRAY['planned'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'skipped'::text, 'not_started'::text])))
);
CREATE TABLE public.locks (
    name text NOT NULL
);
CREATE TABLE public.notifications (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    reference text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.notifications FORCE ROW LEVEL SECURITY;
CREATE TABLE public.outbox_messages (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    job text NOT NULL,
    key text NOT NULL,
    payload jsonb NOT NULL,
    priority smallint DEFAULT 3 NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    scheduled_at timestamp with time zone DEFAULT now() NOT NULL,
    dequeued_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    last_attempt_at timestamp with time zone,
    lease_until timestamp with time zone,
    completed_at timestamp with time zone,
    workflow_id text,
    error_type text,
    error_message text,
    correlation_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_outbox_messages_id CHECK (((substr((id)::text, 15, 1) = '7'::text) AND (id < 'e677d21f-dc00-7000-8000-000000000000'::uuid))),
    CONSTRAINT ck_outbox_messages_owner CHECK (starts_with(workflow_id, (tenant_id || '/'::text))),
    CONSTRAINT ck_outbox_messages_payload CHECK ((pg_column_size(payload) <= 1048576)),
    CONSTRAINT ck_outbox_messages_priority CHECK (((priority >= 1) AND (priority <= 5))),
    CONSTRAINT ck_outbox_messages_sizes CHECK (((char_length(job) <= 1000) AND (char_length(key) <= 1000) AND (char_length(workflow_id) <= 1000) AND (char_length(error_type) <= 1000) AND (char_length(error_message) <= 1000) AND (char_length(correlation_id) <= 1000))),
    CONSTRAINT ck_outbox_messages_status CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'dead_letter'::text]))),
    CONSTRAINT ck_outbox_messages_times CHECK ((((scheduled_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (scheduled_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((dequeued_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (dequeued_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((last_attempt_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (last_attempt_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((lease_until >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (lease_until <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((completed_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (completed_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) AND ((created_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-01-01 00:00:00+00'::timestamp with time zone))))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_insert_scale_factor='0', autovacuum_vacuum_insert_threshold='10000', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='2000', autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY public.outbox_messages FORCE ROW LEVEL SECURITY;
CREATE TABLE public.outbox_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.outgoing_mail (
    tenant_id text NOT NULL,
    id text NOT NULL,
    recipient text NOT NULL,
    subject text NOT NULL,
    body text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    answer text
);
ALTER TABLE ONLY public.outgoing_mail FORCE ROW LEVEL SECURITY;
CREATE TABLE public.payment_events (
    tenant_id text NOT NULL,
    event_id text NOT NULL,
    body bytea NOT NULL,
    sent_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    outcome text,
    CONSTRAINT ck_payment_events_outcome CHECK ((outcome = ANY (ARRAY['applied'::text, 'superseded'::text, 'ignored'::text])))
);
ALTER TABLE ONLY public.payment_events FORCE ROW LEVEL SECURITY;
CREATE TABLE public.plans (
    id text NOT NULL,
    fairness_weight double precision DEFAULT 1 NOT NULL,
    concurrency_cap integer,
    rate_limits jsonb DEFAULT '{}'::jsonb NOT NULL,
    features text[] DEFAULT '{}'::text[] NOT NULL,
    retention_days integer,
    CONSTRAINT ck_plans_concurrency_cap CHECK ((concurrency_cap >= 1)),
    CONSTRAINT ck_plans_fairness_weight CHECK (((fairness_weight >= (0.001)::double precision) AND (fairness_weight <= (1000)::double precision))),
    CONSTRAINT ck_plans_retention_days CHECK ((retention_days >= 1))
);
CREATE TABLE public.positions (
    name text NOT NULL,
    upto timestamp with time zone NOT NULL
);
CREATE TABLE public.processed_events (
    tenant_id text NOT NULL,
    consumer text NOT NULL,
    event_id text NOT NULL,
    processed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_processed_events_times CHECK (((processed_at >= '0002-01-01 00:00:00+00'::timestamp with time zone) AND (processed_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)))
);
ALTER TABLE ONLY public.processed_events FORCE ROW LEVEL SECURITY;
CREATE TABLE public.requested_reports (
    tenant_id text NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    kind text NOT NULL,
    parameters jsonb NOT NULL,
    status text DEFAULT 'requested'::text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    completed_at timestamp with time zone,
    CONSTRAINT ck_requested_reports_status CHECK ((status = ANY (ARRAY['requested'::text, 'completed'::text, 'failed'::text])))
);
ALTER TABLE ONLY public.requested_reports FORCE ROW LEVEL SECURITY;
CREATE TABLE public.search_documents (
    tenant_id text NOT NULL,
    kind text NOT NULL,
    ref text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    words tsvector GENERATED ALWAYS AS ((setweight(to_tsvector('simple'::regconfig, title), 'A'::"char") || setweight(to_tsvector('simple'::regconfig, body), 'B'::"char"))) STORED NOT NULL,
    indexed_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.search_documents FORCE ROW LEVEL SECURITY;
CREATE TABLE public.server_checks (
    name text NOT NULL,
    holds boolean NOT NULL,
    message text NOT NULL,
    checked_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.subscriptions (
    tenant_id text NOT NULL,
    plan text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    current_period_end timestamp with time zone,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_by text,
    CONSTRAINT ck_subscriptions_status CHECK ((status = ANY (ARRAY['active'::text, 'past_due'::text, 'cancelled'::text])))
);
ALTER TABLE ONLY public.subscriptions FORCE ROW LEVEL SECURITY;
CREATE TABLE public.tenant_data_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.tenants (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    status text NOT NULL,
    status_since timestamp with time zone DEFAULT now() NOT NULL,
    status_reason text,
    resumes_as text,
    plan_id text NOT NULL,
    features text[] DEFAULT '{}'::text[] NOT NULL,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    trial_ends_at timestamp with time zone,
    CONSTRAINT ck_tenants_id CHECK (((id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text) AND (id <> 'platform'::text))),
    CONSTRAINT ck_tenants_status CHECK ((status = ANY (ARRAY['trial'::text, 'active'::text, 'suspended'::text, 'offboarding'::text, 'deleted'::text])))
);
CREATE TABLE public.ticks (
    job text NOT NULL,
    tick text NOT NULL,
    nominal_time timestamp with time zone,
    workflow_id text,
    run_id text,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    state text NOT NULL,
    reason text,
    planned_at timestamp with time zone,
    CONSTRAINT ck_ticks_state CHECK ((state = ANY (ARRAY['running'::text, 'ended'::text, 'failed'::text, 'cancelled'::text, 'missed'::text])))
);
CREATE TABLE public.usage_events (
    tenant_id text NOT NULL,
    time_hour timestamp with time zone NOT NULL,
    carrier text NOT NULL,
    flight integer NOT NULL,
    origin text NOT NULL,
    destination text NOT NULL,
    tail_number text,
    distance integer NOT NULL,
    air_time integer,
    departure_delay integer,
    cancelled boolean NOT NULL
);
ALTER TABLE ONLY public.usage_events FORCE ROW LEVEL SECURITY;
ALTER TABLE ONLY public.control_plane_version
    ADD CONSTRAINT control_plane_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.outbox_version
    ADD CONSTRAINT outbox_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.admission
    ADD CONSTRAINT pk_admission PRIMARY KEY (tenant_id);
ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT pk_alerts PRIMARY KEY (name);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT pk_api_keys PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_daily
    ADD CONSTRAINT pk_audit_daily PRIMARY KEY (tenant_id, day, action, actor);
ALTER TABLE ONLY public.audit_entries
    ADD CONSTRAINT pk_audit_entries PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.contacts
    ADD CONSTRAINT pk_contacts PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.daily_usage
    ADD CONSTRAINT pk_daily_usage PRIMARY KEY (tenant_id, day);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT pk_dead_letters PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.documents
    ADD CONSTRAINT pk_documents PRIMARY KEY (tenant_id, kind, key);
ALTER TABLE ONLY public.exports
    ADD CONSTRAINT pk_exports PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.external_records
    ADD CONSTRAINT pk_external_records PRIMARY KEY (tenant_id, integration_id, external_id);
ALTER TABLE ONLY public.import_rejected_rows
    ADD CONSTRAINT pk_import_rejected_rows PRIMARY KEY (tenant_id, import_id, "row");
ALTER TABLE ONLY public.import_seen_emails
    ADD CONSTRAINT pk_import_seen_emails PRIMARY KEY (tenant_id, import_id, email);
ALTER TABLE ONLY public.imports
    ADD CONSTRAINT pk_imports PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.in_flight
    ADD CONSTRAINT pk_in_flight PRIMARY KEY (tenant_id, workflow_id);
ALTER TABLE ONLY public.integrations
    ADD CONSTRAINT pk_integrations PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.invoice_lines
    ADD CONSTRAINT pk_invoice_lines PRIMARY KEY (tenant_id, period, rate);
ALTER TABLE ONLY public.invoices
    ADD CONSTRAINT pk_invoices PRIMARY KEY (tenant_id, period);
ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT pk_ledger PRIMARY KEY (job, tick, tenant_id);
ALTER TABLE ONLY public.locks
    ADD CONSTRAINT pk_locks PRIMARY KEY (name);
ALTER TABLE ONLY public.notifications
    ADD CONSTRAINT pk_notifications PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.outbox_messages
    ADD CONSTRAINT pk_outbox_messages PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.outgoing_mail
    ADD CONSTRAINT pk_outgoing_mail PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.payment_events
    ADD CONSTRAINT pk_payment_events PRIMARY KEY (tenant_id, event_id);
ALTER TABLE ONLY public.plans
    ADD CONSTRAINT pk_plans PRIMARY KEY (id);
ALTER TABLE ONLY public.positions
    ADD CONSTRAINT pk_positions PRIMARY KEY (name);
ALTER TABLE ONLY public.processed_events
    ADD CONSTRAINT pk_processed_events PRIMARY KEY (tenant_id, consumer, event_id);
ALTER TABLE ONLY public.requested_reports
    ADD CONSTRAINT pk_requested_reports PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.search_documents
    ADD CONSTRAINT pk_search_documents PRIMARY KEY (tenant_id, kind, ref);
ALTER TABLE ONLY public.server_checks
    ADD CONSTRAINT pk_server_checks PRIMARY KEY (name);
ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT pk_subscriptions PRIMARY KEY (tenant_id);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT pk_tenants PRIMARY KEY (id);
ALTER TABLE ONLY public.ticks
    ADD CONSTRAINT pk_ticks PRIMARY KEY (job, tick);
ALTER TABLE ONLY public.usage_events
    ADD CONSTRAINT pk_usage_events PRIMARY KEY (tenant_id, time_hour, carrier, flight);
ALTER TABLE ONLY public.tenant_data_version
    ADD CONSTRAINT tenant_data_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT uq_api_keys_digest UNIQUE (digest);
ALTER TABLE ONLY public.contacts
    ADD CONSTRAINT uq_contacts_tenant_id_email UNIQUE (tenant_id, email);
ALTER TABLE ONLY public.integrations
    ADD CONSTRAINT uq_integrations_tenant_id_name UNIQUE (tenant_id, name);
CREATE INDEX ix_api_keys_tenant_id_created_at ON public.api_keys USING btree (tenant_id, created_at);
CREATE INDEX ix_audit_entries_tenant_id_actor ON public.audit_entries USING btree (tenant_id, actor);
CREATE INDEX ix_audit_entries_tenant_id_at ON public.audit_entries USING btree (tenant_id, at);
CREATE INDEX ix_dead_letters_fingerprint_status ON public.dead_letters USING btree (fingerprint, status);
CREATE INDEX ix_dead_letters_status_failed_at ON public.dead_letters USING btree (status, failed_at);
CREATE INDEX ix_dead_letters_untold ON public.dead_letters USING btree (fingerprint) WHERE (told_at IS NULL);
CREATE INDEX ix_documents_tenant_id_expires_at ON public.documents USING btree (tenant_id, expires_at);
CREATE INDEX ix_exports_tenant_id_expires_at ON public.exports USING btree (tenant_id, expires_at);
CREATE INDEX ix_imports_tenant_id_created_at ON public.imports USING btree (tenant_id, created_at);
CREATE INDEX ix_in_flight_checked_at ON public.in_flight USING btree (checked_at);
CREATE INDEX ix_ledger_job_tick_due_at_tenant_id ON public.ledger USING btree (job, tick, due_at, tenant_id);
CREATE INDEX ix_ledger_job_tick_state ON public.ledger USING btree (job, tick, state);
CREATE INDEX ix_ledger_tenant_id_job ON public.ledger USING btree (tenant_id, job);
CREATE INDEX ix_outbox_messages_completed_at ON public.outbox_messages USING btree (completed_at) WHERE (status = 'completed'::text);
CREATE INDEX ix_outbox_messages_lease_until ON public.outbox_messages USING btree (lease_until) WHERE (status = 'processing'::text);
CREATE INDEX ix_outbox_messages_waiting ON public.outbox_messages USING btree (tenant_id, priority, scheduled_at, id) WHERE (status = ANY (ARRAY['pending'::text, 'failed'::text]));
CREATE INDEX ix_processed_events_tenant_id_processed_at ON public.processed_events USING btree (tenant_id, processed_at);
CREATE INDEX ix_tenants_time_zone_id ON public.tenants USING btree (time_zone, id);
CREATE INDEX ix_ticks_started_at ON public.ticks USING btree (started_at);
CREATE UNIQUE INDEX uq_dead_letters_tenant_id_workflow_id ON public.dead_letters USING btree (tenant_id, workflow_id);
CREATE UNIQUE INDEX uq_outbox_messages_tenant_id_job_key ON public.outbox_messages USING btree (tenant_id, job, key) WHERE (status <> 'dead_letter'::text);
CREATE TRIGGER key_from_id BEFORE INSERT ON public.outbox_messages FOR EACH ROW WHEN ((new.key IS NULL)) EXECUTE FUNCTION public.key_from_id();
CREATE TRIGGER tenants_insert BEFORE INSERT ON public.outbox_messages FOR EACH ROW WHEN (((CURRENT_USER = 'tenancy_tenant'::name) AND ((new.status <> ALL (ARRAY['pending'::text, 'dead_letter'::text])) OR (NOT ((new.attempts >= 0) AND (new.attempts <= 1000000))) OR (new.dequeued_at IS NOT NULL) OR (new.last_attempt_at IS NOT NULL) OR (new.lease_until IS NOT NULL) OR (new.completed_at IS NOT NULL) OR (new.workflow_id IS NOT NULL)))) EXECUTE FUNCTION public.refuse_write('a new message waits, and the relay does the rest');
CREATE TRIGGER tenants_update BEFORE UPDATE ON public.dead_letters FOR EACH ROW WHEN (((CURRENT_USER = 'tenancy_tenant'::name) AND ((new.status <> 'open'::text) OR (new.told_at IS NOT NULL)))) EXECUTE FUNCTION public.refuse_write('a failure opens a letter, and people do the rest');
CREATE TRIGGER tenants_update BEFORE UPDATE ON public.outbox_messages FOR EACH ROW WHEN (((CURRENT_USER = 'tenancy_tenant'::name) AND (((new.status = 'processing'::text) AND (old.status <> 'processing'::text)) OR (NOT ((new.attempts >= 0) AND (new.attempts <= 1000000))) OR ((new.lease_until IS DISTINCT FROM old.lease_until) AND (new.lease_until IS NOT NULL)) OR ((new.workflow_id IS DISTINCT FROM old.workflow_id) AND (new.workflow_id IS NOT NULL))))) EXECUTE FUNCTION public.refuse_write('who has a message, and for how long, the relay says');
ALTER TABLE ONLY public.external_records
    ADD CONSTRAINT fk_external_records_tenant_id_integration_id_integrations FOREIGN KEY (tenant_id, integration_id) REFERENCES public.integrations(tenant_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.import_rejected_rows
    ADD CONSTRAINT fk_import_rejected_rows_tenant_id_import_id_imports FOREIGN KEY (tenant_id, import_id) REFERENCES public.imports(tenant_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.import_seen_emails
    ADD CONSTRAINT fk_import_seen_emails_tenant_id_import_id_imports FOREIGN KEY (tenant_id, import_id) REFERENCES public.imports(tenant_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.invoice_lines
    ADD CONSTRAINT fk_invoice_lines_tenant_id_period_invoices FOREIGN KEY (tenant_id, period) REFERENCES public.invoices(tenant_id, period) ON DELETE CASCADE;
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT fk_tenants_plan_id_plans FOREIGN KEY (plan_id) REFERENCES public.plans(id);
ALTER TABLE public.audit_daily ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.audit_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.contacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.daily_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.dead_letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.exports ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.external_records ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.import_rejected_rows ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.import_seen_emails ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.imports ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.integrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.invoice_lines ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.notifications ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.outbox_messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.outgoing_mail ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.payment_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY platform_access ON public.dead_letters TO tenancy_platform USING (true) WITH CHECK (true);
ALTER TABLE public.processed_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY relay_access ON public.dead_letters TO tenancy_relay USING (true) WITH CHECK (true);
CREATE POLICY relay_access ON public.outbox_messages TO tenancy_relay USING (true) WITH CHECK (true);
ALTER TABLE public.requested_reports ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.search_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.subscriptions ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_access ON public.audit_daily TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.audit_entries TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.contacts TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.daily_usage TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.dead_letters TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.documents TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.exports TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.external_records TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.import_rejected_rows TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.import_seen_emails TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.imports TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.integrations TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.invoice_lines TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.invoices TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.notifications TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.outbox_messages TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.outgoing_mail TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.payment_events TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.processed_events TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.requested_reports TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.search_documents TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.subscriptions TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_access ON public.usage_events TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.audit_daily AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.audit_entries AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.contacts AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.daily_usage AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.dead_letters AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.documents AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.exports AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.external_records AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.import_rejected_rows AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.import_seen_emails AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.imports AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.integrations AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.invoice_lines AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.invoices AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.notifications AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.outbox_messages AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.outgoing_mail AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.payment_events AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.processed_events AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.requested_reports AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.search_documents AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.subscriptions AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
CREATE POLICY tenant_isolation ON public.usage_events AS RESTRICTIVE TO tenancy_tenant USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));
ALTER TABLE public.usage_events ENABLE ROW LEVEL SECURITY;
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO tenancy_tenant;
GRANT USAGE ON SCHEMA public TO tenancy_platform;
GRANT USAGE ON SCHEMA public TO tenancy_relay;
REVOKE ALL ON FUNCTION public.key_from_id() FROM PUBLIC;
REVOKE ALL ON FUNCTION public.refuse_write() FROM PUBLIC;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.admission TO tenancy_platform;
GRANT SELECT ON TABLE public.admission TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.alerts TO tenancy_platform;
GRANT SELECT,INSERT,UPDATE ON TABLE public.alerts TO tenancy_relay;
GRANT SELECT,INSERT,UPDATE ON TABLE public.api_keys TO tenancy_platform;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.audit_daily TO tenancy_tenant;
GRANT SELECT,INSERT ON TABLE public.audit_entries TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contacts TO tenancy_tenant;
GRANT SELECT ON TABLE public.control_plane_version TO tenancy_tenant;
GRANT SELECT ON TABLE public.control_plane_version TO tenancy_platform;
GRANT SELECT ON TABLE public.control_plane_version TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.daily_usage TO tenancy_tenant;
GRANT SELECT ON TABLE public.dead_letters TO tenancy_tenant;
GRANT SELECT,INSERT,UPDATE ON TABLE public.dead_letters TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.dead_letters TO tenancy_platform;
GRANT INSERT(tenant_id) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(job) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(source),UPDATE(source) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(workflow_id) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(run_id),UPDATE(run_id) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(message_id),UPDATE(message_id) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(error_type),UPDATE(error_type) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(message),UPDATE(message) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(fingerprint),UPDATE(fingerprint) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(attempts),UPDATE(attempts) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT INSERT(failed_at),UPDATE(failed_at) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT UPDATE(recorded_at) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT UPDATE(status) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT UPDATE(told_at) ON TABLE public.dead_letters TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.documents TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.exports TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.external_records TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.import_rejected_rows TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.import_seen_emails TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.imports TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.in_flight TO tenancy_platform;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.in_flight TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.integrations TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.invoice_lines TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.invoices TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ledger TO tenancy_platform;
GRANT SELECT,INSERT,UPDATE ON TABLE public.locks TO tenancy_platform;
GRANT SELECT,INSERT,UPDATE ON TABLE public.locks TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.notifications TO tenancy_tenant;
GRANT SELECT,DELETE ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT SELECT,DELETE,UPDATE ON TABLE public.outbox_messages TO tenancy_relay;
GRANT INSERT(tenant_id) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(id) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(job) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(key) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(payload),UPDATE(payload) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(priority) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(scheduled_at),UPDATE(scheduled_at) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(dequeued_at) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(attempts),UPDATE(attempts) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(last_attempt_at),UPDATE(last_attempt_at) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(lease_until),UPDATE(lease_until) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(completed_at),UPDATE(completed_at) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(workflow_id),UPDATE(workflow_id) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(error_type),UPDATE(error_type) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(error_message),UPDATE(error_message) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT INSERT(correlation_id) ON TABLE public.outbox_messages TO tenancy_tenant;
GRANT SELECT ON TABLE public.outbox_version TO tenancy_tenant;
GRANT SELECT ON TABLE public.outbox_version TO tenancy_platform;
GRANT SELECT ON TABLE public.outbox_version TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.outgoing_mail TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_events TO tenancy_tenant;
GRANT SELECT,INSERT,UPDATE ON TABLE public.plans TO tenancy_platform;
GRANT SELECT ON TABLE public.plans TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.positions TO tenancy_platform;
GRANT SELECT,DELETE ON TABLE public.processed_events TO tenancy_tenant;
GRANT INSERT(tenant_id) ON TABLE public.processed_events TO tenancy_tenant;
GRANT INSERT(consumer) ON TABLE public.processed_events TO tenancy_tenant;
GRANT INSERT(event_id) ON TABLE public.processed_events TO tenancy_tenant;
GRANT UPDATE(processed_at) ON TABLE public.processed_events TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.requested_reports TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.search_documents TO tenancy_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.server_checks TO tenancy_platform;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.subscriptions TO tenancy_tenant;
GRANT SELECT ON TABLE public.tenant_data_version TO tenancy_tenant;
GRANT SELECT ON TABLE public.tenant_data_version TO tenancy_platform;
GRANT SELECT ON TABLE public.tenant_data_version TO tenancy_relay;
GRANT SELECT,INSERT,UPDATE ON TABLE public.tenants TO tenancy_platform;
GRANT SELECT ON TABLE public.tenants TO tenancy_relay;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ticks TO tenancy_platform;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.usage_events TO tenancy_tenant;
ALTER DEFAULT PRIVILEGES FOR ROLE tenancy_owner REVOKE ALL ON FUNCTIONS FROM PUBLIC;
INSERT INTO public.control_plane_version VALUES ('0006');
INSERT INTO public.outbox_version VALUES ('0002');
INSERT INTO public.tenant_data_version VALUES ('0006');
INSERT INTO public.plans (id, fairness_weight, features, retention_days) VALUES
    ('free', 1, '{}', 90),
    ('standard', 2, '{analytics,reports}', 730),
    ('enterprise', 5, '{analytics,exports,imports,reports}', NULL);
