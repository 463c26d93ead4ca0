"""`python -m tests.system.upgrade NAME`: records the statements of the present code as a release.

Run it on the release itself, once, with `releases/NAME/rows.sql` written: the rows that its
database holds. What it writes is committed, and never recorded again.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from tests.system.upgrade import scenario
from tests.system.upgrade.recording import Recording
from tests.system.upgrade.releases import Release, build, heads


def main() -> int:
    """Returns 0 once the statements and the revisions are written."""
    [name] = sys.argv[1:]
    release = Release(name)
    release.write_revisions(heads())
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedPostgres(Path(directory), durable=False) as server,
    ):
        urls = server.create_database("recorded")
        build(urls, release)
        release.write_transactions(asyncio.run(_record(urls)))
    return 0


async def _record(urls: DatabaseUrls) -> Recording:
    recording = Recording()
    await scenario.run(urls, recording)
    return recording


if __name__ == "__main__":
    sys.exit(main())
