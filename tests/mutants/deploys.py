"""The mutants of releases: faults in who gets which worker version, and in what halts it."""

from __future__ import annotations

from typing import Any, Final

from temporal_tenancy.deployments import comparison, releases, versions
from temporal_tenancy.deployments.comparison import Compared
from temporal_tenancy.deployments.releases import Release, Releases
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.sdk import _guard as guard
from temporal_tenancy.sdk.interceptors._client_outbound import TenancyClientOutbound
from tests.mutants.mutant import Mutant, replace

RELEASES: Final = "tests/library/deployments/test_releases.py"
WORKERS: Final = "tests/library/deployments/test_versioned_workers.py"
COMPARED: Final = "tests/library/deployments/test_comparison.py"
_KEPT: Final = f"{WORKERS}::test_tenants_runs_keep_their_version_and_short_platform_runs_do_not"
_BAD: Final = (
    f"{WORKERS}::"
    "test_a_bad_build_runs_for_its_tenants_alone_is_halted_and_they_catch_up_on_the_old_one"
)


def _release_to_everybody() -> None:
    replace(Release, "has", lambda self, tenant_id, queue: self.is_ramping)


def _go_on_after_the_end() -> None:
    replace(Releases, "ramping", Releases.all)
    replace(Release, "has", lambda self, tenant, queue: self._is_for(tenant))


def _allow_two_cohorts() -> None:
    replace(releases, "_refuse_two_cohorts", lambda *_: None)


def _start_on_the_current_version() -> None:
    async def none(self: TenancyClientOutbound, tenant_id: str, queue: str) -> Any:
        return None

    replace(TenancyClientOutbound, "_released", none)


def _find_no_fault() -> None:
    replace(Compared, "fault", lambda self, bounds: None)


def _move_every_run() -> None:
    replace(guard, "_PINNED", guard._UPGRADING)


def _pin_on_every_queue() -> None:
    replace(Release, "serves", lambda self, queue: True)


def _count_runs() -> None:
    def fault(self: Compared, bounds: Any) -> str | None:
        bad = self.new_failed / self.new_ended > bounds.max_failures if self.new_ended else False
        return "worse" if self.new_ended >= bounds.min_runs and bad else None

    replace(Compared, "fault", fault)


def _believe_an_odd_row() -> None:
    plain = releases._release

    def believing(row: Any) -> Release:
        found = plain(row)
        if found.odd is not None:
            raise releases.ReleaseInvalid(found.odd)
        return found

    replace(releases, "_release", believing)


def _mix_deployments() -> None:
    own = "coalesce(ledger.deployment, :deployment)"
    before, after = comparison._BY_JOB.text.split(own)
    replace(comparison, "_BY_JOB", library_text(f"{before}:deployment{after}"))


def _keep_the_bound() -> None:
    async def least(directory: Any, build_id: str, cohort: Any, min_tenants: int) -> int:
        return min_tenants

    replace(releases, "_least", least)


def _need_no_workers() -> None:
    async def queues(client: Any, deployment: Any, build_id: str, **_: Any) -> frozenset[str]:
        return frozenset({"bulk"})

    replace(versions, "require_queues", queues)


DEPLOY_FAULTS: Final = [
    Mutant(
        "deployments-mixed",
        "a build id of another deployment counts as the release's",
        (f"{COMPARED}::test_the_same_build_id_of_another_deployment_is_another_version",),
        seed=_mix_deployments,
    ),
    Mutant(
        "never-halted-for-few",
        "a release to fewer tenants than must fail is never halted for failures",
        (
            f"{RELEASES}::"
            "test_a_release_to_fewer_tenants_than_must_fail_is_halted_when_all_of_them_do",
        ),
        seed=_keep_the_bound,
    ),
    Mutant(
        "released-without-workers",
        "a version is released or promoted though none of its workers polls",
        (
            "tests/library/deployments/test_bad_releases.py::"
            "test_what_ramps_is_said_and_what_was_taken_back_is_passed_over",
        ),
        seed=_need_no_workers,
    ),
    Mutant(
        "pinned-on-every-queue",
        "a release pins runs on queues that its workers do not serve",
        (f"{RELEASES}::test_a_release_is_for_the_queues_that_its_workers_serve",),
        seed=_pin_on_every_queue,
    ),
    Mutant(
        "runs-counted",
        "one customer's failed runs halt a release",
        (f"{RELEASES}::test_a_release_is_halted_for_more_failures_or_longer_runs",),
        seed=_count_runs,
    ),
    Mutant(
        "odd-row-believed",
        "one odd row of the releases stops every tenant's start",
        (f"{RELEASES}::test_an_odd_row_is_refused_by_the_table_and_ignored_where_it_is_there",),
        seed=_believe_an_odd_row,
    ),
    Mutant(
        "released-to-everybody",
        "a release gives its version to every tenant",
        (RELEASES, _BAD),
        seed=_release_to_everybody,
    ),
    Mutant(
        "released-after-the-end",
        "a release that was halted or rolled back still gives its version",
        (f"{RELEASES}::test_a_release_gives_its_tenants_the_version_until_it_ends",),
        seed=_go_on_after_the_end,
    ),
    Mutant(
        "two-cohorts",
        "a tenant can be in the cohorts of two releases",
        (f"{RELEASES}::test_no_tenant_is_in_two_cohorts",),
        seed=_allow_two_cohorts,
    ),
    Mutant(
        "released-to-nobody",
        "a start of a release's tenant goes to the current version",
        (_BAD,),
        seed=_start_on_the_current_version,
    ),
    Mutant(
        "never-halted",
        "a release is never halted, however bad it is",
        (f"{RELEASES}::test_a_release_is_halted_for_more_failures_or_longer_runs",),
        seed=_find_no_fault,
    ),
    Mutant(
        "unpinned",
        "a tenant's run moves to the current version in the middle",
        (_KEPT,),
        seed=_move_every_run,
    ),
]
