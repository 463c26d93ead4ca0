"""Detecting the separator of a file's cells."""

from __future__ import annotations

import pytest

from activities.contact_rows import judge
from saas.services.delimiters import HINT, Dialect, choose_dialect


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        ("email,name\na@b.test,Ann\n", Dialect(",")),
        ("email;name\na@b.test;Ann\n", Dialect(";")),
        ("email\tname\na@b.test\tAnn\n", Dialect("\t")),
        ("email|name\na@b.test|Ann\n", Dialect("|")),
        ('email;name;"notes, remarks"\na@b.test;Ann;"x, y"\n', Dialect(";")),
        ('"notes, remarks";email\n"x, y";a@b.test\n', Dialect(";")),
        ("email;a,b;c,d,e,f\na@b.test;1,2;3\n", Dialect(";")),
        ("name,email;x\nAnn,a@b.test\n", Dialect(",")),
        ("E-Mail;name\na@b.test;Ann\n", Dialect(";")),
        ("email\na@b.test\n", Dialect(",")),
        ("email\na@b.test,Ann\n", Dialect(",")),
        ("email\na@b.test;Ann\n", Dialect(";")),
        ("email", Dialect(",")),
        ("", Dialect(",")),
        ("name;phone\nAnn;1\n", Dialect(";")),
        ("name,phone\nAnn,1\n", Dialect(",")),
        ('email, name, company\na@b.test, "Smith, John", Acme\n', Dialect(",", skips_blanks=True)),
        ('email; name\na@b.test; "Smith; John"\n', Dialect(";", skips_blanks=True)),
        ('email, name\na@b.test, 24" screen\n', Dialect(",")),
        ('email,name\na@b.test, "Bo" Smith\nb@b.test,x\n', Dialect(",")),
    ],
)
def test_the_header_and_the_rows_say_what_separates_cells(content: str, dialect: Dialect) -> None:
    assert choose_dialect(content.splitlines(keepends=True), judge) == dialect


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [
        ("sep=;\r\n", ";"),
        ("SEP=,\n", ","),
        ("sep=\t\r", "\t"),
        ("\ufeffsep=|", "|"),
        ('"sep=;"\r\n', ";"),
        ("sep=;;;\r\n", ";"),
        ("sep=^\n", "^"),
    ],
)
def test_the_hint_of_excel_is_known(line: str, delimiter: str) -> None:
    found = HINT.fullmatch(line)
    assert found is not None
    assert found["delimiter"] == delimiter


@pytest.mark.parametrize("line", ["sep", "sep=", "sep=a", "sep=;x", "separator=;", "sep=;,name"])
def test_other_lines_are_no_hint(line: str) -> None:
    assert HINT.fullmatch(line) is None


def test_a_dialect_is_kept_as_a_text() -> None:
    for dialect in (Dialect(","), Dialect("\t"), Dialect(";", skips_blanks=True)):
        assert Dialect.of(str(dialect)) == dialect
