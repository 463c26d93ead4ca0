"""The table of the conformance suite names what is there, and each mode is in it."""

from __future__ import annotations

import ast

import pytest

from tests.conformance import HERE, OTHERS, SUITE, Conforming, Mode


@pytest.mark.parametrize("module", SUITE)
def test_each_name_is_a_test_of_its_module(module: str) -> None:
    tree = ast.parse((HERE / module).read_text())
    tests = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    conforming = SUITE[module]
    assert {*(conforming.quick or ()), *conforming.once, *conforming.in_one_database} <= tests


@pytest.mark.parametrize("mode", OTHERS)
def test_every_run_of_the_suite_has_tests_in_each_mode(mode: Mode) -> None:
    assert any(
        mode in conforming.modes and (conforming.quick is None or conforming.quick)
        for conforming in SUITE.values()
    )


def test_a_mode_that_cannot_change_a_test_does_not_run_it() -> None:
    conforming = Conforming(
        quick=("one", "two"), once={"two": "because"}, in_one_database={"one": "because"}
    )
    assert conforming.modes_of("one", full=False) == [Mode.SHARED, Mode.SCHEMA, Mode.PGBOUNCER]
    assert conforming.modes_of("two", full=True) == [Mode.SHARED]
    assert conforming.modes_of("three", full=False) == [Mode.SHARED]
    assert conforming.modes_of("three", full=True) == [Mode.SHARED, *OTHERS]
