"""A list filter is rewritten from its parsed form, or rejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.client import CountWorkflowsInput, OutboundInterceptor, WorkflowExecutionCount

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.sdk.interceptors._client_outbound import TenancyClientOutbound
from temporal_tenancy.sdk.list_filter import DEEPEST, narrowed

UNDERSTOOD = {
    None: "TenantId = 'acme'",
    "": "TenantId = 'acme'",
    " \n\t ": "TenantId = 'acme'",
    "Job='a.b'": "TenantId = 'acme' AND ( Job = 'a.b' )",
    'Job = "a.b"': "TenantId = 'acme' AND ( Job = 'a.b' )",
    "`Job` != ''": "TenantId = 'acme' AND ( `Job` != '' )",
    "a = 'ä -- # /* ; ('": "TenantId = 'acme' AND ( a = 'ä -- # /* ; (' )",
    "a=1 or b<>-2.5 and c>=1e3": "TenantId = 'acme' AND ( a = 1 OR b <> -2.5 AND c >= 1e3 )",
    "not (not(a<true) or b>False)": (
        "TenantId = 'acme' AND ( NOT ( NOT ( a < TRUE ) OR b > FALSE ) )"
    ),
    "a in ('x',1) and b not in('y')": (
        "TenantId = 'acme' AND ( a IN ( 'x' , 1 ) AND b NOT IN ( 'y' ) )"
    ),
    "a between 'x' and 'y' and b is not null": (
        "TenantId = 'acme' AND ( a BETWEEN 'x' AND 'y' AND b IS NOT NULL )"
    ),
    "a starts_with'x' or b not starts_with 'y'": (
        "TenantId = 'acme' AND ( a STARTS_WITH 'x' OR b NOT STARTS_WITH 'y' )"
    ),
    "group by ExecutionStatus": "TenantId = 'acme' GROUP BY ExecutionStatus",
    "a is null order by b desc, c": (
        "TenantId = 'acme' AND ( a IS NULL ) ORDER BY b DESC , c"
    ),
}  # fmt: skip

REFUSED = [
    "a = 'x' -- y",
    "a = 'x' # y",
    "a = 'x' // y",
    "a = 'x' /* y */",
    "a = 'x' /*! or b = 'y' */",
    "a = 'x''y'",
    'a = "x""y"',
    "a = 'x' 'y'",
    r"a = 'x\'",
    r"a = 'x\\'",
    "a = 'x\"'",
    "a = 'x`'",
    "a = 'x\ny'",
    "a = 'x\0'",
    "a = 'x\ud800'",
    "a = x'61'",
    "a = b'1'",
    "a = 0x1",
    "a = 1.",
    "a = .5",
    "a = --1",
    "a = 1-1",
    "a = b",
    "'x' = a",
    "a = :v",
    "a = ?",
    "a = (1)",
    "a = now()",
    "a <=> 1",
    "a like 'x'",
    "a && b = 1",
    "a = 1 || b = 1",
    "a = 1 xor b = 1",
    "a = 1; b",
    "a = 1 b = 1",
    "a = 1 or",
    "or a = 1",
    "()",
    "(a = 1",
    "a = 1)",
    "a = 1) or (b = 1",
    "a in ()",
    "a in (1,)",
    "a in 1",
    "a in (select b from c)",
    "a between 1",
    "a not = 1",
    "a is 1",
    "a.b = 1",
    "`a``b` = 1",
    "`a = 1",
    "``= 1",
    "ä = 1",
    "a\u00a0= 1",
    "a = 1 group by b, c",
    "a = 1 group by b having c",
    "a = 1 order by b limit 1",
    "a = 1 limit 1",
    "a = 1 union select * from b",
    "order by a group by b",
    "where a = 1",
    "(" * (DEEPEST + 1) + "a = 1" + ")" * (DEEPEST + 1),
]


@pytest.mark.parametrize(("query", "sent"), UNDERSTOOD.items())
def test_what_is_understood_is_kept_to_the_tenant(query: str | None, sent: str) -> None:
    assert narrowed(query, "acme") == sent


@pytest.mark.parametrize("query", REFUSED)
def test_what_is_not_plainly_understood_is_refused(query: str) -> None:
    with pytest.raises(TenantMismatch, match=r"not understood from character \d+ on"):
        narrowed(query, "acme")


@pytest.mark.parametrize("sent", UNDERSTOOD.values())
def test_what_is_kept_to_a_tenant_may_be_kept_to_it_again(sent: str) -> None:
    assert narrowed(sent, "acme").startswith("TenantId = 'acme' AND ( TenantId = 'acme'")


def test_a_refusal_repeats_nothing_of_what_was_asked() -> None:
    with pytest.raises(TenantMismatch) as caught:
        narrowed("a = 'x' \x1b[31m", "acme")
    assert caught.value.message.startswith("this list filter is not understood from character 9 on")
    assert "\x1b" not in caught.value.message


async def test_a_count_is_narrowed_before_it_is_passed_on() -> None:
    class Next(OutboundInterceptor):
        async def count_workflows(self, input: CountWorkflowsInput) -> WorkflowExecutionCount:
            raise LookupError(input.query)

    outbound = TenancyClientOutbound(Next(None), None)  # type: ignore[arg-type]
    asked = CountWorkflowsInput(query="a = 1", rpc_metadata={}, rpc_timeout=None)
    with enter(TenantScope("acme")), pytest.raises(LookupError, match="TenantId = 'acme' AND"):
        await outbound.count_workflows(asked)


@given(st.text("aN=<>!'\"`\\-#/*(),; \n09.ORandinby", max_size=40))
def test_whatever_is_asked_is_kept_inside_its_parentheses_or_refused(query: str) -> None:
    try:
        sent = narrowed(query, "acme")
    except TenantMismatch:
        return
    rest = sent.removeprefix("TenantId = 'acme'").removeprefix(" AND ( ")
    depth = 0
    quoted = False
    for character in rest if rest != sent else "":
        quoted ^= character == "'"
        depth += 0 if quoted else {"(": 1, ")": -1}.get(character, 0)
        assert depth >= -1
    assert not quoted
