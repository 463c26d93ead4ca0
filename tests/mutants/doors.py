"""The mutants of the HTTP door, and of files that people open in a spreadsheet."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any, Final

import h11
from sqlalchemy import Select
from starlette.types import Scope

from processes.web import bodies, jobs, key_tries, strict_http
from processes.web.addresses import Addresses
from processes.web.connections import Connections, DoorProtocol, Phase
from processes.web.shares import Share
from saas.database import paging
from saas.database.paging import Cursors
from saas.requests import idempotency
from saas.requests.idempotency import KeyedRequest
from saas.services import outgoing_http, partner_credentials
from temporal_tenancy.core import csv_safety
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.lifecycle import Scrape
from temporal_tenancy.metrics._noisiest import Noisiest
from temporal_tenancy.outbox import _requests as requests
from tests.mutants.mutant import Mutant, replace

SCRAPES: Final = "tests/library/metrics/test_scrape.py"
SERIES: Final = "tests/library/metrics/test_bounded_series.py"

CONNECTIONS: Final = "tests/system/web/test_web_connections.py"
SHARES: Final = "tests/system/web/test_web_shares.py"
JOBS: Final = "tests/system/web/test_web_jobs.py"
CALLS: Final = "tests/system/web/test_web_hostile_calls.py"
ADDRESSES: Final = "tests/system/web/test_web_addresses.py"
LISTS: Final = "tests/system/web/test_web_lists.py"
INTEGRATIONS: Final = "tests/system/web/test_web_integrations.py"
IDEMPOTENCY: Final = "tests/system/web/test_web_idempotency.py"
SEARCH: Final = "tests/saas/jobs/test_search.py"
CELLS: Final = "tests/library/core/test_csv_safety.py"
AMBIGUOUS: Final = (
    f"{CONNECTIONS}::test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_done"
)


def _let_everybody_scrape() -> None:
    replace(Scrape, "allows", lambda self, authorization: True)


def _name_every_tenant() -> None:
    def add(
        self: Noisiest, tenant: str, measure: str, value: float, *, weighs: bool = True
    ) -> None:
        sums = self._sums.setdefault(tenant, {})
        sums[measure] = sums.get(measure, 0.0) + value

    replace(Noisiest, "add", add)


def _never_in(*phases: Phase) -> None:
    enter = DoorProtocol._enter

    def without_a_deadline(self: DoorProtocol, phase: Phase, seconds: float | None = None) -> None:
        enter(self, phase, seconds)
        if phase in phases and self._waiting is not None:
            self._waiting.cancel()

    replace(DoorProtocol, "_enter", without_a_deadline)


def _wait_for_heads() -> None:
    _never_in(Phase.HEAD)


def _keep_idle_ones() -> None:
    _never_in(Phase.IDLE)
    replace(DoorProtocol, "timeout_keep_alive_handler", lambda self: None)  # uvicorn's own


def _each_byte_begins_anew() -> None:
    received = DoorProtocol.data_received

    def data_received(self: DoorProtocol, data: bytes) -> None:
        self._phase = None if self._phase is Phase.HEAD else self._phase
        received(self, data)

    replace(DoorProtocol, "data_received", data_received)


def _wait_for_readers() -> None:
    replace(DoorProtocol, "_expect_reader", lambda self: None)


def _keep_no_rate() -> None:
    replace(bodies.Pace, "patience", 3_600.0)


def _count_no_addresses() -> None:
    replace(Connections, "_close_one_of", lambda self, address: True)


def _close_the_newest() -> None:
    def most(self: Connections) -> bool:
        return self._close_one_of(next(iter(reversed(self._waiting)), None))

    replace(Connections, "_close_one", most)


def _share_without_end() -> None:
    replace(Share, "taken", lambda self, who: nullcontext())


def _believe_everybody() -> None:
    replace(Addresses, "_is_trusted", lambda self, address: True)


def _believe_the_leftmost() -> None:
    def of_call(self: Addresses, scope: Scope) -> str:
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        peer: str = scope["client"][0]
        return forwarded[0].split(b",")[0].decode() if forwarded else peer

    replace(Addresses, "of_call", of_call)


def _hear_every_try() -> None:
    async def refuse(self: key_tries.KeyTries, address: str) -> None:
        """Refuses nobody."""

    replace(key_tries.KeyTries, "_refuse", refuse)


def _read_generously() -> None:
    def lenient(*, head_max_bytes: int, headers_max: int) -> Any:
        return h11._receivebuffer.ReceiveBuffer()

    replace(strict_http, "_StrictBuffer", lenient)


def _take_two_lengths() -> None:
    replace(strict_http, "_check_lines", lambda lines, headers_max: None)


def _end_with_the_callers_half() -> None:
    replace(DoorProtocol, "eof_received", lambda self: False)


def _look_once() -> None:
    recorded = requests._recorded
    found: dict[WorkflowId, Any] = {}

    async def once(workflow_id: WorkflowId) -> Any:
        if workflow_id not in found:
            found[workflow_id] = await recorded(workflow_id)
        return found[workflow_id]

    replace(requests, "_recorded", once)


def _take_the_last_of_two() -> None:
    replace(bodies, "_only_once", lambda pairs: None)


def _compute() -> None:
    replace(csv_safety, "_UNMARKED", re.compile(r"(?!)"))


def _look_at_the_first_character_only() -> None:
    replace(csv_safety, "_UNMARKED", re.compile(r"\A(?=[=+\-@＝＋－＠\t\r\n])"))


def _double_no_mark() -> None:
    replace(csv_safety, "_UNMARKED", re.compile(csv_safety._UNMARKED.pattern.replace("\"'", '"')))


def _leave_ids_to_the_job() -> None:
    async def check(*arguments: object, **options: object) -> None:
        """Refuses nothing."""

    replace(jobs, "refuse_what_cannot_be_done", check)


def _bind_no_cursor() -> None:
    replace(Cursors, "_digest", lambda self, body: bytes(paging._DIGEST_BYTES))


def _send_credentials_anywhere() -> None:
    replace(outgoing_http, "same_origin", lambda one, other: True)


def _believe_any_host() -> None:
    replace(partner_credentials, "_is_bound_to", lambda name, url: True)


def _make_it_each_time() -> None:
    async def claim(*arguments: object) -> bool:
        """Takes every request for the first one with its key."""
        return True

    replace(idempotency, "_claim", claim)


def _compare_no_requests() -> None:
    replace(KeyedRequest, "of", classmethod(lambda cls, key, said: cls(key, "")))


def _index_without_a_lock() -> None:
    replace(Select, "with_for_update", lambda self, **options: self)


DOOR_FAULTS: Final = [
    Mutant(
        "ids-left-to-the-job",
        "a wrong id becomes a message, and then a dead letter",
        (f"{JOBS}::test_what_the_input_of_a_job_names_must_be_the_tenants_own",),
        seed=_leave_ids_to_the_job,
    ),
    Mutant(
        "cursors-of-any-list",
        "a cursor of another list or tenant is taken",
        (f"{LISTS}::test_a_cursor_is_good_for_its_own_list_and_tenant_only",),
        seed=_bind_no_cursor,
    ),
    Mutant(
        "credentials-for-any-host",
        "a stored credential is sent to a new host",
        (f"{INTEGRATIONS}::test_a_stored_credential_goes_to_no_other_host",),
        seed=_send_credentials_anywhere,
    ),
    Mutant(
        "credentials-unbound",
        "a credential whose URL was not committed is sent to the old host",
        (f"{INTEGRATIONS}::test_a_credential_whose_url_was_not_committed_goes_to_no_other_host",),
        seed=_believe_any_host,
    ),
    Mutant(
        "repeated-requests-done-again",
        "a request that is sent again has a second effect",
        (
            f"{IDEMPOTENCY}::test_a_request_that_is_sent_again_has_one_effect_and_one_answer[export]",
        ),
        seed=_make_it_each_time,
    ),
    Mutant(
        "keys-of-any-request",
        "another request with a key gets the first one's answer",
        (f"{IDEMPOTENCY}::test_a_key_is_for_one_route",),
        seed=_compare_no_requests,
    ),
    Mutant(
        "contacts-indexed-unlocked",
        "a contact that changes while it is indexed keeps its older text in the index",
        (f"{SEARCH}::test_a_change_waits_for_the_message_that_is_being_worked_off",),
        seed=_index_without_a_lock,
    ),
    Mutant(
        "heads-waited-for",
        "a connection with an incomplete head stays open",
        (f"{CONNECTIONS}::test_who_sends_nothing_is_not_waited_for",),
        seed=_wait_for_heads,
    ),
    Mutant(
        "bytes-prolong-heads",
        "each byte of a head restarts its timeout",
        (f"{CONNECTIONS}::test_a_head_that_comes_byte_by_byte_is_cut_off",),
        seed=_each_byte_begins_anew,
    ),
    Mutant(
        "idle-connections-kept",
        "an idle connection stays open",
        (f"{CONNECTIONS}::test_a_connection_that_is_kept_and_not_used_is_closed",),
        seed=_keep_idle_ones,
    ),
    Mutant(
        "readers-waited-for",
        "a client that does not read keeps its connection",
        (f"{CONNECTIONS}::test_who_does_not_read_is_not_written_to_for_long",),
        seed=_wait_for_readers,
    ),
    Mutant(
        "bodies-keep-no-rate",
        "a body may arrive at any speed",
        (f"{SHARES}::test_a_body_that_keeps_no_rate_is_refused",),
        seed=_keep_no_rate,
    ),
    Mutant(
        "addresses-without-share",
        "one address may have all connections",
        (f"{CONNECTIONS}::test_no_address_has_more_connections_than_its_share",),
        seed=_count_no_addresses,
    ),
    Mutant(
        "newest-makes-room",
        "the newest connection is closed, not one of the address with the most",
        (f"{CONNECTIONS}::test_who_comes_new_is_answered_however_many_connections_wait",),
        seed=_close_the_newest,
    ),
    Mutant(
        "requests-not-counted",
        "one address may have any number of concurrent requests",
        (f"{CONNECTIONS}::test_no_address_has_more_requests_at_once_than_its_share",),
        seed=_share_without_end,
    ),
    Mutant(
        "everybody-a-proxy",
        "X-Forwarded-For is trusted from any peer",
        (f"{ADDRESSES}::test_what_an_untrusted_peer_says_changes_nothing",),
        seed=_believe_everybody,
    ),
    Mutant(
        "leftmost-hop-believed",
        "the leftmost address counts, which the caller can forge",
        (f"{ADDRESSES}::test_a_call_counts_for_who_made_it",),
        seed=_believe_the_leftmost,
    ),
    Mutant(
        "key-tries-not-counted",
        "one address may try any number of keys",
        (f"{SHARES}::test_an_address_that_tries_keys_is_not_heard_for_a_while",),
        seed=_hear_every_try,
    ),
    Mutant(
        "heads-read-generously",
        "an ambiguous request is accepted",
        (AMBIGUOUS,),
        seed=_read_generously,
    ),
    Mutant(
        "two-lengths-taken",
        "a request may have a length and a transfer coding",
        (f"{AMBIGUOUS}[length and coding]",),
        seed=_take_two_lengths,
    ),
    Mutant(
        "halves-end-connections",
        "a client that closes its sending half gets no answer",
        (f"{CONNECTIONS}::test_who_ends_its_half_gets_the_answers_to_what_came_whole",),
        seed=_end_with_the_callers_half,
    ),
    Mutant(
        "letters-looked-for-before-the-end",
        "a run that fails during the lookup is shown without its reason",
        (f"{JOBS}::test_a_run_that_fails_while_it_is_looked_up_is_told_with_its_reason",),
        seed=_look_once,
    ),
    Mutant(
        "fields-taken-twice",
        "a body may have a field twice, and one is ignored",
        (f"{CALLS}::test_what_says_two_things_is_refused_and_nothing_done",),
        seed=_take_the_last_of_two,
    ),
    Mutant(
        "formulas-left",
        "a spreadsheet evaluates a cell as a formula",
        (CELLS,),
        seed=_compute,
    ),
    Mutant(
        "formulas-left-behind-separators",
        "a reader with another separator evaluates what follows it",
        (f"{CELLS}::test_no_cell_is_a_formula_wherever_a_reader_splits",),
        seed=_look_at_the_first_character_only,
    ),
    Mutant(
        "marks-not-doubled",
        "a cell that begins with the mark loses it when read back",
        (f"{CELLS}::test_what_was_made_safe_is_read_back_exactly",),
        seed=_double_no_mark,
    ),
    Mutant(
        "scrapes-without-the-token",
        "whoever reaches the health port reads the metrics",
        (f"{SCRAPES}::test_a_scrape_without_the_right_is_refused",),
        seed=_let_everybody_scrape,
    ),
    Mutant(
        "every-tenant-a-series",
        "a process has a series for each tenant",
        (f"{SERIES}::test_a_flood_of_tenants_adds_the_noisiest_and_one_for_the_rest",),
        seed=_name_every_tenant,
    ),
]
