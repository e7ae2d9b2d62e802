"""Personal data: what is found, where, and what stands in its place."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from posthog_driver.exceptions import ConfigurationError
from posthog_driver.tools.layout import Block, render
from posthog_driver.tools.pii import ColumnPolicy

POLICY = ColumnPolicy(secret=b"test")
MAIL = "bob@example.com"


def pseudonym(value: str, name: str = "email") -> str:
    (masked,) = POLICY.apply((name,), [[value]])[1][0]
    assert isinstance(masked, str)
    return masked


# By name ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("email", "email"), ("person.properties.email", "email"), ("user_email", "email"), ("emailAddress", "email"),
        ("E-Mail", "email"), ("lower(properties.email)", "email"), ("coalesce(properties.email, 'none')", "email"),
        ("$ip", "ip"), ("$initial_ip", "ip"), ("REMOTE_ADDR", "ip"), ("ipv4", "ip"), ("clientIp", "ip"),
        ("phone", "phone"), ("phone_number", "phone"), ("mobile", "phone"), ("name", "name"), ("$name", "name"),
        ("firstName", "name"), ("first name", "name"), ("last_name", "name"), ("username", "name"),
        ("display_name", "name"), ("name2", "name"),
        ("x" * 10_000 + ".email", "email"),
    ],
)  # fmt: skip
def test_a_name_tells_what_its_column_holds(name: str, kind: str) -> None:
    assert POLICY.kind(name) == kind


@pytest.mark.parametrize(
    "name",
    ["event", "event_name", "product_name", "email_domain", "$browser", "$browser_version", "description", "zip",
     "tooltip", "hostname", "$host", "$os_name", "utm_campaign", "plan", "distinct_id", "timestamp", "", "日本", "42"],
)  # fmt: skip
def test_a_name_that_only_resembles_one_is_left_alone(name: str) -> None:
    assert POLICY.kind(name) is None


def test_a_host_names_what_else_is_private_and_what_is_not() -> None:
    policy = ColumnPolicy(columns=("IBAN", "$vat"), allowed=("name",), secret=b"test")

    columns, rows, _ = policy.apply(("iban", "properties.vat", "name", "email"), [["CZ65", 12, "Basic", MAIL]])

    assert columns == ("iban", "properties.vat", "name", "email")
    assert [str(cell).split("-")[0] for cell in rows[0]] == ["private", "private", "Basic", "email"]


def test_numbers_and_flags_under_a_personal_name_are_counts_and_stay() -> None:
    row = [12, 0.5, True, None, ""]

    assert POLICY.apply(("email", "ip", "phone", "name", "email"), [row])[1] == [row]


def test_a_telephone_number_is_one_also_as_a_number() -> None:
    assert pseudonym(420777123456, "phone") == pseudonym("+420 777 123 456", "phone")  # type: ignore[arg-type]


# By shape -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail bob@example.com, please", "mail <email>, please"),
        ("https://x.example/?email=bob%40example.com&plan=team", "https://x.example/?email=<email>&plan=team"),
        ("/hello?first_name=Bob&x=1#email=bob", "/hello?first_name=<name>&x=1#email=<email>"),
        ("from 10.2.3.4:80", "from <ip>:80"),
        ("http://1.2.3.4/x", "http://<ip>/x"),
        ("2001:db8::8a2e:370:7334", "<ip>"),
        ("::ffff:10.2.3.4", "<ip>"),
        ("call +420 777 123 456 or (555) 123-4567", "call <phone> or <phone>"),
        ("555-123-4567", "<phone>"),
        ("0042077712345678", "<phone>"),
        ("'bob@example.com' o'neil@example.com", "'<email>' <email>"),
        ('["bob@example.com"]', '["<email>"]'),
        ('{"first_name": "Bob", "n": 1}', '{"first_name":"<name>","n":1}'),
        ('{"a": {"phone": "call me"}, "b": ["10.2.3.4"]}', '{"a":{"phone":"<phone>"},"b":["<ip>"]}'),
        ('{"name": "Bob", "name": 1}', '{"name":1}'),
        ('{"bob@example.com": 1}', '{"<email>":1}'),
        ('{"inner": "{\\"email\\": \\"who\\"}"}', '{"inner":"{\\"email\\":\\"<email>\\"}"}'),
        ('{"name": "Bob", "cut": "in the mid', '{"name": "<name>", "cut": "in the mid'),
    ],
)  # fmt: skip
def test_personal_data_is_found_by_its_shape_inside_any_text(text: str, expected: str) -> None:
    assert re.sub(r"\b(email|ip|phone|name)-[a-z2-7]{7}\b", r"<\1>", POLICY.text(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"a":1,  "b": 2.50}', "Chrome/142.0.7444.60", "Chrome/1.2.3.4", "142.0.0.0", "v1.2.3.4.5",
        "1.2.3.456", "12:34:56", "2026-11-20T00:00:00+01:00", "2026-11-20 12:30:00.123456", "std::vector", "a::b",
        "01975c4b-1234-7123-8123-123456789012", "1234567890123", "12.50 - 3.20", "::1", "@media (max-width: 600px)",
        "@handle", "50.0755381, 14.4378005", "$pageview", "/files/2026/11?step=3&plan=team", "日本 🎉",
    ],
)  # fmt: skip
def test_what_is_not_personal_stays_as_it_is(text: str) -> None:
    assert POLICY.text(text) == text


def test_values_of_lists_and_objects_are_searched_as_well() -> None:
    cell = {"a": [MAIL, {"name": "Bob"}], MAIL: (1, None)}

    (masked,) = POLICY.apply(("x",), [[cell]])[1][0]

    assert masked["a"] == [pseudonym(MAIL), {"name": pseudonym("Bob", "name")}]
    assert masked[pseudonym(MAIL)] == [1, None]


def test_names_of_columns_are_searched_as_they_can_be_values() -> None:
    assert POLICY.apply((f"'{MAIL}'",), [])[0] == (f"'{pseudonym(MAIL)}'",)


def test_json_under_a_personal_name_hides_all_its_texts() -> None:
    assert json.loads(pseudonym('{"first": "Bob", "n": 3}', "name")) == {"first": pseudonym("Bob", "name"), "n": 3}


@pytest.mark.parametrize("text", ["[" * 50_000 + "]" * 50_000, '{"a": ' + "9" * 5_000 + "}"])
def test_what_cannot_be_searched_is_not_shown_and_that_is_said(text: str) -> None:
    _, rows, notes = POLICY.apply(("x",), [[text]])

    assert rows == [["[not shown]"]]
    assert notes == ("not shown: 1 cell with JSON that cannot be searched for personal data",)


# Pseudonyms ---------------------------------------------------------------------------------------------------------


def test_the_same_value_has_one_pseudonym_wherever_and_however_it_is_written() -> None:
    spellings = [" Bob@Example.com", MAIL, "bob%40example.com"]
    found = {pseudonym(text) for text in spellings} | {pseudonym(MAIL, "name"), POLICY.text(f"x {MAIL}")[2:]}

    assert len(found) == 1
    assert re.fullmatch(r"email-[a-z2-7]{7}", found.pop())
    assert pseudonym("::0a02:0304", "ip") == pseudonym("::a02:304", "ip")
    assert pseudonym("Bob  Smith", "name") == pseudonym("bob smith", "first_name")


def test_other_values_kinds_and_secrets_have_other_pseudonyms() -> None:
    others = {pseudonym(f"user{n}@example.com") for n in range(500)}

    assert len(others) == 500
    assert pseudonym("x", "name").split("-")[1] != pseudonym("x", "phone").split("-")[1]
    assert ColumnPolicy().text(MAIL) != ColumnPolicy().text(MAIL)


def test_a_policy_does_not_show_its_secret() -> None:
    assert "secret" not in repr(ColumnPolicy(secret=b"hidden"))
    assert "hidden" not in repr(ColumnPolicy(secret=b"hidden"))


def test_a_personal_column_may_hold_anything() -> None:
    assert pseudonym("unknown", "ip").startswith("ip-")
    assert pseudonym("none given", "phone").startswith("phone-")


def test_lone_surrogates_have_a_pseudonym_too() -> None:
    assert pseudonym("\ud800", "name").startswith("name-")


# Modes --------------------------------------------------------------------------------------------------------------

BLOCK = Block(
    ("who", "email", "n"),
    [[MAIL, "x", 1], ["nobody", "x", 2]],
    ("String", "String", "UInt64"),
    notes=("before",),
)  # fmt: skip


def test_masked_cells_are_counted_with_their_columns() -> None:
    protected = POLICY.protect(BLOCK)

    assert protected.columns == BLOCK.columns
    assert protected.types == BLOCK.types
    assert protected.notes == (
        "before",
        "masked as personal data: 3 e-mail addresses in column 1, 2; the same value has the same pseudonym in every"
        " answer",
    )
    assert MAIL not in render(protected)


def test_dropped_columns_go_with_their_types_and_are_announced() -> None:
    protected = ColumnPolicy("drop").protect(BLOCK)

    assert protected.columns == ("who", "n")
    assert protected.types == ("String", "UInt64")
    assert protected.rows == [["[email]", 1], ["nobody", 2]]
    assert protected.notes == (
        "before",
        "left out as personal data: column 2 of what was selected",
        "left out as personal data: 1 e-mail address in column 1; each is written as [kind]",
    )


def test_notes_count_columns_as_they_are_shown() -> None:
    _, _, notes = ColumnPolicy("drop").apply(("email", "x"), [["y", MAIL]])

    assert "1 e-mail address in column 1;" in notes[1]


def test_dropped_keys_of_json_are_gone() -> None:
    policy = ColumnPolicy("drop")

    assert policy.apply(("x",), [['{"email": "x", "n": 1}'], [{"name": "Bob"}]])[1] == [['{"n":1}'], [{}]]


def test_many_dropped_columns_are_listed_in_part() -> None:
    names = tuple(f"email_{n}" for n in range(12))

    assert ColumnPolicy("drop").apply(names, [])[2] == (
        "left out as personal data: column 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more of what was selected",
    )


def test_whoever_wants_to_show_everything_has_to_say_so() -> None:
    policy = ColumnPolicy("show")
    row: list[Any] = [MAIL, "x", 1]

    assert policy.protect(BLOCK) is BLOCK
    assert policy.apply(BLOCK.columns, [row]) == (BLOCK.columns, [row], ())
    assert policy.text(MAIL) == MAIL
    assert policy.masking().cell("email", MAIL) == MAIL


def test_single_values_are_treated_as_cells_are() -> None:
    masking = POLICY.masking()

    assert masking.cell("email", "x") == pseudonym("x")
    assert masking.cell("plan", MAIL) == pseudonym(MAIL)
    assert masking.notes() == (
        "masked as personal data: 2 e-mail addresses; the same value has the same pseudonym in every answer",
    )
    assert ColumnPolicy("drop").masking().cell("email", "x") == "[email]"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mask, drop, show, not 'hide'"):
        ColumnPolicy("hide")
