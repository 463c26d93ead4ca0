"""Which rows are contacts: only the e-mail address decides."""

from __future__ import annotations

import pytest

from activities.contact_rows import CheckedRows, Columns, is_email, judge
from saas.services.contact_columns import COLUMNS_MAX
from saas.services.csv_files import FileRefused


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
    checked = check(
        "email,name", "a@b.example,x", "a@b.example,y", "x", "no,x", ",", "  ,\u200b", ",x"
    )
    assert (checked.accepted, len(checked.rejected)) == (2, 3)
    assert [each.place for each in checked.rejected] == [2, 3, 4]
    assert [each.line for each in checked.rejected] == [4, 5, 8]


def test_cells_that_are_missing_are_empty_and_empty_ones_too_many_are_nothing() -> None:
    checked = check("email,name,phone", "a@b.example", "b@b.example,Bo,1,, ,", "c@b.example,Cy")
    assert checked.rejected == []
    assert [known[:2] for known in checked.contacts.values()] == [("", ""), ("Bo", "1"), ("Cy", "")]
    assert checked.attributes == {}


def test_cells_too_many_with_something_in_them_are_kept_as_one_attribute() -> None:
    checked = check("email,name", "a@b.example,Smith, John ,,5")
    assert checked.attributes == {"a@b.example": {"further cells": "John, 5"}}


@pytest.mark.parametrize(
    "name",
    [
        *("email", " EMAIL ", "E-mail", "e_mail", "E Mail", "Email Address", "e-mail address"),
        *("Mail", "\ufeffemail", "em\u200bail", "E\u2011Mail", "E-mail\u00a01 - Value"),
        *("E-Mail-Adresse", "Correo electrónico", "ＥＭＡＩＬ", "Email:", "(email)"),
    ],
)
def test_the_column_of_the_e_mail_is_known_by_its_usual_names(name: str) -> None:
    assert list(Columns([name, "x"]).check([(2, ["a@b.example", "1"], None)]).contacts) == [
        "a@b.example"
    ]
    assert judge([name], []) == 1.0


@pytest.mark.parametrize(
    "name", ["mailing list", "emails sent", "mail opt-in", "name", "e", "", "@"]
)
def test_other_columns_are_not(name: str) -> None:
    assert judge([name, "x"], []) is None


def test_an_exact_name_goes_before_a_usual_one() -> None:
    checked = check("Mail,email,Email Address", "1,a@b.example,2")
    assert checked.attributes == {"a@b.example": {"Mail": "1", "Email Address": "2"}}


@pytest.mark.parametrize(
    ("header", "row", "known"),
    [
        ("Mail,First Name,Last Name", "a@b.example,Ann,Li", ("Ann Li", "", "", "")),
        ("Mail,Surname", "a@b.example,Li", ("Li", "", "", "")),
        ("Mail,First Name,Last Name", "a@b.example,,Li", ("Li", "", "", "")),
        ("Mail,Name,First Name", "a@b.example,Ann Li,Ann", ("Ann Li", "", "", "")),
        ("Mail,Full Name", "a@b.example,Ann Li", ("Ann Li", "", "", "")),
        ("Mail,Phone Number", "a@b.example,1", ("", "1", "", "")),
        ("Mail,Mobile,Telephone", "a@b.example,1,2", ("", "2", "", "")),
        ("Mail,Mobile,phone", "a@b.example,1,2", ("", "2", "", "")),
        ("Mail,Organisation,Country/Region", "a@b.example,Acme,DK", ("", "", "Acme", "DK")),
    ],
)
def test_the_other_columns_have_usual_names_too(
    header: str, row: str, known: tuple[str, ...]
) -> None:
    assert check(header, row).contacts == {"a@b.example": known}


def test_what_is_not_seen_is_no_part_of_an_address_or_a_column_and_stays_inside_a_name() -> None:
    family = "\U0001f469\u200d\U0001f467"
    row = ["\u200bA@b.example\u00a0", f"\ufeff {family} ", "\u202a+49\u202c"]
    checked = Columns(["\u200bemail", "na\u00adme", "V\u200bIP\x1b"]).check([(2, row, None)])
    assert checked.contacts == {"a@b.example": (family, "", "", "")}
    assert checked.attributes == {"a@b.example": {"VIP": "+49"}}


@pytest.mark.parametrize(
    ("email", "reason"),
    [
        (
            "a\u200db@c.example",
            "its e-mail is not an address: it has a ZERO WIDTH JOINER (U+200D) in it",
        ),
        (
            "a\u00a0b@c.example",
            "its e-mail is not an address: it has a NO-BREAK SPACE (U+00A0) in it",
        ),
        ("a@\U0001f4a9.example", "its e-mail is not an address"),
        ("\x1b[2J@c.example", "its e-mail is not an address"),
        ("Łukasz Żółć", "its e-mail is not an address"),
        ("ä@@ä ö", "its e-mail is not an address"),
        ("a@" + "ä" * 2_000, "its e-mail is not an address"),
        ("\u200b", "it has no e-mail"),
        ("ä" * 5_000 + "@c.example", "its e-mail is not an address"),
    ],
)
def test_the_reason_names_what_is_not_seen(email: str, reason: str) -> None:
    [rejection] = Columns(["email", "x"]).check([(2, [email, "1"], None)]).rejected
    assert rejection.reason == reason


@pytest.mark.parametrize(
    "spelled",
    [
        "info@straße.example",
        "INFO@Straße.example",
        "info@XN--strae-oqa.example",
        "info@xn--strae-oqa.example",
    ],
)
def test_an_address_is_one_however_its_domain_is_spelled(spelled: str) -> None:
    assert list(check("email", spelled).contacts) == ["info@straße.example"]
    assert list(check("email", "info@strasse.example").contacts) == ["info@strasse.example"]


@pytest.mark.parametrize(
    "domain", ["हिन्दी.भारत", "ทดสอบ.ไทย", "نامه\u200cای.com", "例子.公司", "xn--ls8h.la"]
)
def test_an_address_may_be_in_any_script(domain: str) -> None:
    assert list(check("email", f"a@{domain}").contacts) == [f"a@{domain}"]


EXPORT = "email,phone,attributes,created_at,updated_at,contacts_export_1"


def exported(*cells: str, header: str = EXPORT) -> CheckedRows:
    return Columns(header.split(",")).check([(2, list(cells), None)])


def test_an_export_is_read_back_as_it_was_written() -> None:
    at = "2001-02-03T04:05:06.000789+00:00"
    checked = exported("a@b.example", "'+49", """{"x": "''=y", "n": [1.5]}""", at, at, "")
    assert checked.contacts == {"a@b.example": ("", "+49", "", "")}
    assert checked.attributes == {"a@b.example": {"x": "''=y", "n": [1.5]}}
    assert checked.created["a@b.example"].isoformat() == at


@pytest.mark.parametrize(
    "attributes",
    ["[]", "1", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"\\u0000": 1}'],
)
def test_attributes_that_are_no_object_reject_their_row(attributes: str) -> None:
    [rejection] = exported("a@b.example", "", attributes, "", "", "").rejected
    assert "not a JSON object" in rejection.reason


@pytest.mark.parametrize(
    "created", ["", "yesterday", "2001-02-03", "0001-01-01T00:00:00+14:00", "9" * 99]
)
def test_a_time_that_is_none_is_passed_over(created: str) -> None:
    checked = exported("a@b.example", "", "", created, "", "")
    assert (checked.accepted, checked.created) == (1, {})


def test_an_error_file_of_an_error_file_is_read_as_the_first() -> None:
    header = ["row", "line", "reason", "row", "line", "reason", "email", "'=vip"]
    columns = Columns(header)
    assert columns.header == ["email", "=vip"]
    checked = columns.check([(2, [*"123", *"123", "a@b.example", "'+1"], None)])
    assert checked.attributes == {"a@b.example": {"=vip": "+1"}}


@pytest.mark.parametrize(
    "header", ["line,row,reason,email", "row,line,email,reason", "Row,Line,Reason,email"]
)
def test_other_columns_of_these_names_are_no_mark_of_ours(header: str) -> None:
    names = header.split(",")
    row = ["'=x" if name != "email" else "a@b.example" for name in names]
    checked = Columns(names).check([(2, row, None)])
    assert list(checked.attributes["a@b.example"].values()) == ["'=x"] * 3


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("name,\x1b[2J,,Größe", r'no column "email"\. .* It has: "name", "\[2J", "Größe"\.'),
        (",", 'no column "email".* It has none with a name'),
        ("email,Email", 'names a column twice: "email"'),
        ("email,x, X", 'names a column twice: "x"'),
        ("Mail,Email Address", 'more than one column could be the e-mail: "Mail", "Email Address"'),
        ("email" + ",c" * COLUMNS_MAX, "501 columns; 500 are allowed"),
    ],
)
def test_a_header_by_which_no_contact_can_be_read_is_refused(header: str, sentence: str) -> None:
    with pytest.raises(FileRefused, match=sentence):
        Columns(header.split(","))
