"""The findings of the leak check, as people read them: each cause once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from temporal_tenancy.core import words
from temporal_tenancy.core.display import printable

SHOWN: Final = 3  # statements of one cause
NAMED: Final = 12  # tables of one cause

_KINDS: Final = {
    "leak": "leak",
    "own": "a tenant cannot use its own rows",
    "unchecked": "not checked",
}


@dataclass(frozen=True)
class Leak:
    """One finding of the leak check.

    `kind` is "leak": a tenant saw, changed, removed or learned of another tenant's rows; "own": a
    tenant could not use its own rows as it may; or "unchecked": the check could not tell.
    """

    kind: Literal["leak", "own", "unchecked"]
    object: str  # the table, view, function or sequence
    statement: str  # the kind of statement
    sql: str
    seen: str  # what happened
    cause: str = ""  # why, where the catalogue tells

    def __str__(self) -> str:
        text = f"{self.object}: {self.statement}: {self.seen}"
        return printable(text if not self.sql else f"{text}\n    {self.sql}", lines=True)


def told(findings: Sequence[Leak]) -> str:
    """Returns the findings by cause: what it is, in which tables, and a few statements."""
    causes = _by_cause(findings)
    lines = [f"{words.number(len(findings), 'finding')}, {words.number(len(causes), 'cause')}:"]
    for found in causes:
        first = found[0]
        counts = Counter(finding.object for finding in found)
        for joined in [name for name in counts if " and " in name]:
            if not counts.keys().isdisjoint(joined.split(" and ")):
                del counts[joined]  # one of the two is named
        named = [
            f"{printable(name)} ({words.number(count, 'statement')})"
            if count > 1
            else printable(name)
            for name, count in counts.most_common(NAMED)
        ]
        if len(counts) > NAMED:
            named.append(f"and {len(counts) - NAMED} more")
        cause = f"{printable(first.cause)}: " if first.cause else ""
        lines.append(f"- {_KINDS[first.kind]}: {cause}{', '.join(named)}")
        shown = [finding for finding in found if finding.object == counts.most_common(1)[0][0]]
        for finding in shown[:SHOWN]:
            lines += [f"    {line}" for line in str(finding).splitlines()]
    return "\n".join(lines)


def _by_cause(findings: Sequence[Leak]) -> list[list[Leak]]:
    """Puts findings together that have the same cause, or the same signs in several tables."""
    signs: dict[str, frozenset[tuple[str, str]]] = {}
    for name in dict.fromkeys(finding.object for finding in findings):
        of_table = [each for each in findings if each.object == name and not each.cause]
        signs[name] = frozenset((each.statement, _sign(each)) for each in of_table)
    groups: dict[tuple[str, object], list[Leak]] = {}
    for finding in findings:
        key = finding.cause or signs[finding.object]
        groups.setdefault((finding.kind, key), []).append(finding)
    return sorted(groups.values(), key=lambda found: list(_KINDS).index(found[0].kind))


def _sign(finding: Leak) -> str:
    """Returns what was seen without numbers and names, which differ from table to table."""
    return re.sub(r"\d+", "0", finding.seen.replace(finding.object, "it"))
