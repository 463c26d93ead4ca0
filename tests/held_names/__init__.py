"""The names that others hold on to: open workflows, rows, other releases, programs, dashboards.

`lists` has them, as the code that is committed has them. `python -m tests.held_names` shows what
has changed since, and `--write` writes the lists anew.
"""
