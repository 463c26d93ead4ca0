"""Which rows are contacts: the e-mail decides, and nothing else."""

from __future__ import annotations

import pytest

from activities.contact_rows import COLUMNS_MAX, CheckedRows, Columns, is_email
from services.csv_files import FileRefused


@pytest.mark.parametrize(
    "email",
    [
        "a@b.co",
        "first.last+tag@sub.domain.example",
        "o'neill@acme.example",
        "x_y-z!#$%&*/=?^`{|}~@acme.example",
        "müller@bücher.example",
        "用户@例子.公司",
        "a@xn--p1ai.xn--p1ai",
        "1@2.example",
        f"{'a' * 64}@acme.example",
        f"a@{'b' * 63}.example",
    ],
)
def test_an_address_is_one(email: str) -> None:
    assert is_email(email)


@pytest.mark.parametrize(
    "email",
    [
        "",
        "@",
        "a",
        "a@",
        "@b.example",
        "a@b",
        "a@b.",
        "a@.example",
        "a@b..example",
        "a..b@c.example",
        ".a@b.example",
        "a.@b.example",
        "a b@c.example",
        "a@b c.example",
        "a@b@c.example",
        "a@-b.example",
        "a@b-.example",
        "a@1.2.3.4",
        "a@[1.2.3.4]",
        '"a b"@c.example',
        "ann <a@b.example>",
        "a@b.example,c@d.example",
        "a@b.example\nbcc: c@d.example",
        "a@b.example\x00",
        f"{'a' * 65}@acme.example",
        f"a@{'b.' * 124}example",
        "a" * 10_000 + "@" + "b." * 10_000,
    ],
)
def test_what_mail_cannot_be_sent_to_is_no_address(email: str) -> None:
    assert not is_email(email)


def check(header: str, *rows: str) -> CheckedRows:
    records = [(number, row.split(","), None) for number, row in enumerate(rows, start=2)]
    return Columns(header.split(",")).check(records)


def test_columns_are_known_by_name_wherever_they_are() -> None:
    checked = check("Country,EMAIL,vip", "DK, A@B.example ,yes", "SE,c@d.example,")
    assert checked.contacts == {
        "a@b.example": ("", "", "", "DK"),
        "c@d.example": ("", "", "", "SE"),
    }
    assert checked.attributes == {"a@b.example": {"vip": "yes"}, "c@d.example": {}}
    assert checked.accepted == 2


def test_a_column_without_a_name_is_passed_over() -> None:
    assert check("email,,", "a@b.example,x,y").attributes == {}


def test_nothing_but_the_e_mail_rejects_a_whole_row() -> None:
    checked = check("email,phone,country", f"a@b.example,{'9' * 10_000},Nowhere at all")
    assert checked.rejected == []


def test_every_row_is_accepted_or_rejected() -> None:
    checked = check("email,name", "a@b.example,x", "a@b.example,y", "a@b.example", "no,x", ",x")
    assert (checked.accepted, len(checked.rejected)) == (2, 3)
    assert [each.place for each in checked.rejected] == [2, 3, 4]
    assert [each.line for each in checked.rejected] == [4, 5, 6]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("name", 'no column "email"'),
        ("email,Email", "names a column twice: email"),
        ("email,x, X", "names a column twice: x"),
        ("email" + ",c" * COLUMNS_MAX, "501 columns; 500 are allowed"),
    ],
)
def test_a_header_by_which_no_contact_can_be_read_is_refused(header: str, sentence: str) -> None:
    with pytest.raises(FileRefused, match=sentence):
        Columns(header.split(","))
