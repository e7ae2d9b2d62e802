"""What the command line prints of data that nobody can trust."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver._output import WRITERS, _width, one_line, printable, to_json

TEXT = st.text(st.characters(codec=None))  # with control characters and lone surrogates
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


def written(monkeypatch: pytest.MonkeyPatch, format: str, rows: list[dict[str, Any]], columns: list[str]) -> str:
    with monkeypatch.context() as patch:
        out = io.StringIO(newline="")
        patch.setattr(sys, "stdout", out)
        WRITERS[format](rows, columns)
        return out.getvalue()


@given(VALUES)
def test_json_reads_back_as_it_was_and_holds_nothing_that_a_terminal_obeys(value: Any) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert text.isprintable()


@given(TEXT)
def test_printable_text_has_no_control_characters_and_plain_text_is_not_changed(text: str) -> None:
    shown = printable(text)
    assert not any(char < " " or "\x7f" <= char <= "\x9f" or char in "\u202e\u2028\u2066" for char in shown)
    assert len(one_line(text).splitlines()) <= 1
    assert shown == text or not text.isprintable()


# The standard library's reader, not our writer, stumbles over NUL before Python 3.11.
READABLE = st.text() if sys.version_info >= (3, 11) else st.text(st.characters(exclude_characters="\0"))


@given(st.lists(READABLE, min_size=1))
def test_csv_reads_back_exactly(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        text = written(monkeypatch, "csv", [{"a": value, "b": 1} for value in texts], ["a", "b"])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b"], *([value, "1"] for value in texts)]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", '""'),
        ("a\0b", "a\0b"),
        ("=1+1", "=1+1"),
        ("-5", "-5"),
        (True, "true"),
        ({"a": [1]}, '"{""a"": [1]}"'),
        (2**70, str(2**70)),
    ],
)
def test_csv_cells(monkeypatch: pytest.MonkeyPatch, value: Any, cell: str) -> None:
    assert written(monkeypatch, "csv", [{"a": 1, "b": value}], ["a", "b"]) == f"a,b\r\n1,{cell}\r\n"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "NULL"),
        ("NULL", '"NULL"'),
        (False, "false"),
        (1.5, "1.5"),
        ([1, "é"], '[1, "é"]'),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("\u3000東京", "\u3000東京"),
    ],
)
def test_table_cells(monkeypatch: pytest.MonkeyPatch, value: Any, cell: str) -> None:
    assert written(monkeypatch, "table", [{"v": value}], ["v"]).splitlines()[2] == cell


def test_numbers_stand_right_and_wide_characters_take_two_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"city": "東京", "n": 5},
        {"city": "Cafe\u0301", "n": None},
        {"city": "Zürich", "n": 1000},
    ]
    assert written(monkeypatch, "table", rows, ["city", "n"]).splitlines() == [
        "city       n",
        "──────  ────",
        "東京       5",
        "Cafe\u0301    NULL",
        "Zürich  1000",
    ]


@pytest.mark.parametrize("columns", [30, 60, 10])
def test_a_terminal_gets_wide_cells_cut_and_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows = [{"id": 7, "short": "abc", "long": "東" * 100_000, "other": "x" * 80}]
    WRITERS["table"](rows, list(rows[0]))
    out, err = capsys.readouterr()
    narrowest = 2 + 2 + 5 + 2 + 8 + 2 + 8  # below eight columns nothing is cut
    assert max(_width(line) for line in out.splitlines()) <= max(columns, narrowest)
    assert out.splitlines()[2].startswith(" 7  abc    東")
    assert out.count("…") == 2
    assert err == "posthog-driver: note: wide cells are cut to fit the terminal; --format json shows all of them\n"


def test_what_fits_the_terminal_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    WRITERS["table"]([{"a": "x" * 9, "b": "y" * 9}], ["a", "b"])
    assert capsys.readouterr() == (f"a          b\n{'─' * 9}  {'─' * 9}\n{'x' * 9}  {'y' * 9}\n", "")


def test_what_is_not_for_a_terminal_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert "x" * 5_000 in written(monkeypatch, "table", [{"a": "x" * 5_000}], ["a"])


def test_a_result_without_columns_prints_nothing_but_empty_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, "table", [], []).strip() == ""
