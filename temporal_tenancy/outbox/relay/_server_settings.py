"""The server settings of a relay's connections."""

from __future__ import annotations

from typing import Final

# The planner must use the index whatever the last ANALYZE saw: the table is empty one moment and
# has a million rows the next. It must look up picked rows one by one: it overestimates how many
# rows a claim picks, and would read the whole table for a hash or merge join. The timeout is there
# because one tenant's rows may take the server long to read while other tenants wait.
SERVER_SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "statement_timeout": "15s",
}
