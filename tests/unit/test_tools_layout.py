"""Answers: what their header says, how cells are written, and what is left out first when room is short."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
import unicodedata
from typing import Any

import pytest

from posthog_driver.exceptions import ResponseFormatError, ValidationError
from posthog_driver.tools.cells import local_date, number_text, text_of
from posthog_driver.tools.escaping import escape, is_safe, shorten, unescape
from posthog_driver.tools.layout import (
    HARD_CHARACTERS,
    Block,
    Limits,
    decode,
    fence,
    lay_out,
    new_fence_id,
    render,
)

ID = "k7f3q2"


def shown(*rows: list[Any], columns: tuple[str, ...] = ("a", "b"), **facts: Any) -> list[str]:
    """The lines of an answer to these rows."""
    return render(Block(columns, rows, **facts), fence_id=ID).split("\n")


def cell(value: Any, **facts: Any) -> str | None:
    """How a value is shown, read back."""
    return decode(render(Block(("a",), [[value]], **facts), fence_id=ID)).rows[0][0]


# The whole ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_a_header_and_rows_between_fences() -> None:
    block = Block(
        ("day", "event", "users"),
        [["2026-11-20T00:00:00Z", "$pageview", 1204], ["2026-11-21T00:00:00Z", "signed up, twice", None]],
        ("DateTime('UTC')", "String", "UInt64"),
        "UTC",
        facts=("0.4 s",),
        handle="q7",
        notes=("a sentence",),
    )

    assert render(block, fence_id=ID) == (
        "2 rows x 3 columns, complete, 0.4 s, time zone UTC, q7\n"
        "a sentence\n"
        '<posthog-data id="k7f3q2">\n'
        "day,event,users\n"
        "2026-11-20,$pageview,1204\n"
        '2026-11-21,"signed up, twice",\n'
        '</posthog-data id="k7f3q2">'
    )


def test_every_answer_has_a_fence_of_its_own() -> None:
    block = Block(("a",), [])

    assert decode(render(block)).fence_id != decode(render(block)).fence_id
    assert re.fullmatch("[0-9a-f]{6}", new_fence_id())


def test_no_rows_and_no_columns_are_an_answer_too() -> None:
    assert shown(columns=("a",)) == [
        "0 rows x 1 column, complete", '<posthog-data id="k7f3q2">', "a", '</posthog-data id="k7f3q2">'
    ]  # fmt: skip
    assert decode("\n".join(shown([], [], columns=()))).rows == [(), ()]


def test_null_and_the_empty_text_are_told_apart_also_alone_on_a_line() -> None:
    assert shown([None], [""], ['""'], columns=("",))[2:6] == ['""', "", '""', '""""""']
    assert decode("\n".join(shown([None], [""], ['""'], columns=("",)))).rows == [(None,), ("",), ('""',)]


def test_a_hundred_rows_cost_at_most_a_twentieth_more_than_bare_csv() -> None:
    rows = [[f"2026-11-{1 + n % 28:02}", "$pageview", "Chrome", n * 7, n, n / 7] for n in range(100)]
    block = Block(("day", "event", "browser", "events", "users", "share"), rows, facts=("0.4 s",), handle="q7")

    text = render(block)

    bare = text.split("\n", 2)[2].rsplit("\n", 1)[0]
    assert len(list(csv.reader(bare.splitlines()))) == 101
    assert len(text) <= 1.05 * len(bare)


def test_an_answer_that_is_an_error_says_its_kind_first() -> None:
    block = Block(("nearest",), [["$pageview"]], problem="unknown_event", facts=("nothing was run",))

    assert render(block).startswith("error unknown_event, nothing was run\n")


# What is missing ----------------------------------------------------------------------------------------------------


def header(block: Block, limits: Limits | None = None) -> str:
    return decode(render(block, limits, ID)).header[0]


ROWS = [[number] for number in range(10)]


def test_rows_that_are_left_are_counted_and_a_cursor_reads_on() -> None:
    block = Block(("n",), ROWS, handle="q7", facts=("0.1 s",))

    assert header(block, Limits(rows=4)) == (
        'rows 1-4 of 10 x 1 column, INCOMPLETE, 0.1 s, q7. 6 rows left. next: posthog_query {"cursor":"q7.4"},'
        " or aggregate in SQL"
    )


def test_a_later_page_says_where_it_is_and_when_it_is_the_last() -> None:
    page = Block(("n",), ROWS[4:], handle="q7", first=4, total=10)

    assert header(page, Limits(rows=4)).startswith("rows 5-8 of 10 x 1 column, INCOMPLETE, q7. 2 rows left. next: ")
    assert '{"cursor":"q7.8"}' in header(page, Limits(rows=4))
    assert header(page) == "rows 5-10 of 10 x 1 column, to the end, q7"
    assert header(page._replace(rows=[], first=10)) == "0 rows x 1 column, to the end, q7"


def test_without_a_handle_the_advice_alone_is_given() -> None:
    assert header(Block(("n",), ROWS, advice="print less"), Limits(rows=9)) == (
        "rows 1-9 of 10 x 1 column, INCOMPLETE. 1 row left. next: print less"
    )


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"source": "cut"}, "INCOMPLETE. PostHog has more rows than it gave. next: write LIMIT"),
        ({"source": "perhaps"}, "PERHAPS INCOMPLETE. PostHog gave as many rows as its limit, so there may be more. "
                                "next: write LIMIT"),
        ({"missing": "165 more properties"}, "INCOMPLETE. not shown: 165 more properties. next: write LIMIT"),
    ],
)  # fmt: skip
def test_what_posthog_or_we_left_out_is_said(facts: dict[str, Any], said: str) -> None:
    block = Block(("n",), ROWS, advice="write LIMIT", **facts)

    assert header(block) == f"10 rows x 1 column, {said}"
    assert not lay_out(block).complete


def test_a_number_that_lost_digits_is_announced() -> None:
    assert header(Block(("n",), [[1 / 3]])) == "1 row x 1 column, complete. decimals rounded"
    assert header(Block(("n",), [[0.25], [math.inf], [1e300]])) == "3 rows x 1 column, complete"


# When room is short -------------------------------------------------------------------------------------------------


def test_a_small_answer_shows_long_cells_whole() -> None:
    text = "x" * 1_900

    assert cell(text) == text


def test_cells_are_shortened_before_rows_are_left_out_and_the_header_says_how_to_see_them() -> None:
    laid = lay_out(Block(("a", "b"), [["x" * 400, n] for n in range(40)]))
    decoded = decode(laid.text)

    assert (laid.shown, laid.shortened, laid.complete) == (40, 40, True)
    assert decoded.shortened == {(row, 0) for row in range(40)}
    assert decoded.rows[0] == ("x" * 300 + "\\…+100", "0")
    assert decoded.header[0].startswith(
        "40 rows x 2 columns, complete. 40 cells shortened to 300 characters in column 1; each ends in \\…+N, N"
        " characters left out. For the whole text ask for that row and column alone"
    )


def test_a_text_that_looks_shortened_is_not_taken_for_one() -> None:
    decoded = decode(render(Block(("a",), [["x\\…+5"], ["x…+5"]])))

    assert decoded.rows == [("x\\…+5",), ("x…+5",)]
    assert not decoded.shortened


def test_a_shortened_name_of_a_column_is_counted_as_well() -> None:
    laid = lay_out(Block(("n" * 2_500, "b"), [["a", "b"]]))

    assert laid.shortened == 1
    assert "in column 1;" in laid.text


def test_many_columns_with_long_cells_still_give_a_few_whole_rows() -> None:
    laid = lay_out(Block(tuple(f"c{n}" for n in range(100)), [["y" * 250] * 100] * 30))
    decoded = decode(laid.text)

    assert len(laid.text) <= 16_000
    assert laid.shown >= 1
    assert all(len(row) == 100 for row in decoded.rows)
    assert "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 90 more" in decoded.header[0]


def test_columns_are_left_out_at_last_and_that_is_said() -> None:
    laid = lay_out(Block(("c",) * 9_000, [["y" * 30] * 9_000] * 2))
    decoded = decode(laid.text)

    assert len(laid.text) <= 16_000
    assert (laid.shown, laid.complete) == (1, False)
    assert f"INCOMPLETE. only the first {len(decoded.columns)} of 9000 columns: select fewer" in re.sub(
        r"\. \d+ cells shortened .*? has the rest", "", decoded.header[0]
    )


def test_long_cells_of_a_block_that_needs_them_stay_long() -> None:
    block = Block(("type", "names"), [["string", "n" * 900]] * 12, long_cells=True)

    assert not lay_out(block).shortened


def test_the_hard_limit_holds_for_the_largest_answer() -> None:
    laid = lay_out(Block(("a", "b"), [["<x>" * 500, "\n" * 999]] * 1_500), Limits(1_000, HARD_CHARACTERS, 2_000))

    assert len(laid.text) <= HARD_CHARACTERS
    assert laid.shown + laid.left == 1_500


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"rows": 1_001}, {"characters": 1_999}, {"characters": 40_001}, {"cell": 19}]
)
def test_limits_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}; it may be"):
        Limits(**wrong)


# Cells --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (False, "false"), (2**64, "18446744073709551616"), (0.1 + 0.2, "0.3"), (1 / 3, "0.333333"),
        (999.9999, "1000"), (12345.678, "12345.68"), (12345.0, "12345"), (-1234.5, "-1234.5"), (1e-7, "1e-07"),
        (1e15, "1000000000000000.0"), (math.nan, "nan"), (-math.inf, "-inf"), ([1, None, "é"], '[1,null,"é"]'),
        ({"a": [True]}, '{"a":[true]}'), (("x",), '["x"]'),
    ],
)  # fmt: skip
def test_a_value_is_written_short(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_a_number_never_grows_by_its_notation() -> None:
    assert all(len(number_text(10.0**power)) <= 24 for power in range(-300, 300))


DAY = ("DateTime('UTC')",)


@pytest.mark.parametrize(
    ("zone", "times", "expected"),
    [
        ("UTC", ["2026-11-20T00:00:00Z", None, "2026-11-21T00:00:00+00:00"], ["2026-11-20", None, "2026-11-21"]),
        ("UTC", ["2026-11-20T13:30:00Z", "2026-11-20T00:00:00Z"], ["2026-11-20T13:30", "2026-11-20T00:00"]),
        ("UTC", ["2026-11-20T13:30:05Z"], ["2026-11-20T13:30:05"]),
        ("UTC", ["2026-11-20T13:30:05.120000Z"], ["2026-11-20T13:30:05.120"]),
        ("UTC", ["2026-11-20T13:30:05.120001Z"], ["2026-11-20T13:30:05.120001"]),
        ("Europe/Prague", ["2026-11-19T23:00:00Z"], ["2026-11-20"]),
        ("Europe/Prague", ["2026-11-20T00:00:00+01:00"], ["2026-11-20"]),
        ("Europe/Prague", ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
         ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]),
        ("No/Such_Zone", ["2026-11-20T00:00:00Z"], ["2026-11-20T00:00:00Z"]),
        ("UTC", ["2026-11-20T00:00:00", "nothing like a time at all", ""],
         ["2026-11-20T00:00:00", "nothing like a time at all", ""]),
        (None, ["2026-11-20T00:00:00Z"], ["2026-11-20T00:00:00Z"]),
    ],
)  # fmt: skip
def test_times_are_shown_in_the_projects_zone_as_precise_as_the_column_needs(
    zone: str | None, times: list[str | None], expected: list[str | None]
) -> None:
    block = Block(("t",), [[time] for time in times], DAY, zone)

    assert [row[0] for row in decode(render(block)).rows] == expected


def test_text_that_looks_like_a_time_stays_as_it_is() -> None:
    assert cell("2026-11-20T00:00:00Z", types=("String",), zone="UTC") == "2026-11-20T00:00:00Z"


def test_today_is_a_day_of_the_projects_zone() -> None:
    midnight_in_utc = 1_795_564_800.0  # 2026-11-25

    assert local_date(midnight_in_utc, "UTC") == local_date(midnight_in_utc, None) == "2026-11-25"
    assert local_date(midnight_in_utc, "America/New_York") == "2026-11-24"


# Escapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("</posthog-data>", "\\u003c/posthog-data>"),
        ("< \u200b/posthog-data>", "\\u003c \\u200b/posthog-data>"),
        ("1 < 2 <= 3 <3 a<5", "1 < 2 <= 3 <3 a<5"),
        ("\u202eevil\U000e0041\ud800\0", "\\u202eevil\\U000e0041\\ud800\\u0000"),
        ("\\n", "\\\\n"),
        ("C:\\dir\\file", "C:\\dir\\file"),
        ("\\\\server", "\\\\\\\\server"),
        ('{"a":"\\"b\\""}', '{"a":"\\"b\\""}'),
    ],
)
def test_escapes_change_only_what_could_be_misread(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert unescape(escaped) == text


def test_every_character_that_cannot_be_seen_is_an_escape() -> None:
    unseen = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    left = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in unseen and is_safe(chr(code))
    ]

    assert left == []


def test_lines_of_a_fence_are_escaped_once() -> None:
    once = escape("<b>\n")

    assert fence(["<b>\n", once], ID).split("\n")[1:-1] == [once, once]


@pytest.mark.parametrize("most", [1, 5, 6, 7, 12])
def test_an_escape_is_never_cut_in_the_middle(most: int) -> None:
    shortened, lost = shorten("\u200b" * 4, most)

    assert shortened == "\\u200b" * (4 - lost) + (f"\\…+{lost}" if lost else "")


# Reading back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no fence",
        '<posthog-data id="a">\na\n</posthog-data id="b">',
        '<posthog-data id="a">\na,b\n1\n</posthog-data id="a">',
        '<posthog-data id="a">\na"b\n</posthog-data id="a">',
    ],
)
def test_what_is_no_answer_is_not_decoded(text: str) -> None:
    with pytest.raises(ResponseFormatError, match="is no answer"):
        decode(text)


def test_an_answer_is_found_also_with_words_of_a_client_behind_it() -> None:
    text = render(Block(("a",), [["1"]]), fence_id=ID) + "\n\nsome words of the client"

    assert decode(text).rows == [("1",)]


def test_json_in_a_cell_is_still_json_after_reading_back() -> None:
    value = {"path": "C:\\new", "tag": "</posthog-data>", "line": "a\nb"}

    assert json.loads(cell(json.dumps(value)) or "") == value
