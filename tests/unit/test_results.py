"""Rows as dicts that lose no value, and the facts that travel with them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from posthog_driver.exceptions import ResponseFormatError
from posthog_driver.results import QueryInfo, QueryResult, rows_to_dicts, unique_names

INFO = QueryInfo(("a", "b"), ("UInt64", "String"), True, "q-1", True, "2024-01-01T00:00:00Z", "UTC", "SELECT", 100)


class TestUniqueNames:
    @pytest.mark.parametrize(
        ("names", "unique"),
        [
            ([], ()),
            (["a", "b"], ("a", "b")),
            (["x", "x", "x"], ("x", "x_2", "x_3")),
            (["x", "x_2", "x"], ("x", "x_2", "x_3")),
            (["x", "x", "x_2"], ("x", "x_3", "x_2")),
            (["x_2", "x", "x", "x_2"], ("x_2", "x", "x_3", "x_2_2")),
            (["", ""], ("", "_2")),
            (["count()", "count()"], ("count()", "count()_2")),
        ],
    )
    def test_repeats_are_numbered_and_no_given_name_is_taken(self, names: list[str], unique: tuple[str, ...]) -> None:
        assert unique_names(names) == unique


class TestRowsToDicts:
    def test_values_stand_under_their_columns_as_they_are(self) -> None:
        nested = {"k": [1, {"l": None}]}
        rows = rows_to_dicts([[1, nested], [None, 2**70]], ("a", "b"))
        assert rows == [{"a": 1, "b": nested}, {"a": None, "b": 2**70}]
        assert rows[0]["b"] is nested
        assert list(rows[0]) == ["a", "b"]

    @pytest.mark.parametrize(
        "name", ["", "it's", 'a"b', "a\\", "a\nb", "\0", "\ud800", "é", "{x}", "count()", "'): 1}; import os  #", "v0"]
    )
    def test_any_text_is_a_name_and_never_code(self, name: str) -> None:
        assert rows_to_dicts([[1, 2]], (name, "other")) == [{name: 1, "other": 2}]
        assert rows_to_dicts([[3]], (name,)) == [{name: 3}]

    def test_very_many_columns_fit(self) -> None:
        columns = tuple(f"c{number}" for number in range(2_000))
        assert rows_to_dicts([list(range(2_000))], columns)[0]["c1999"] == 1999

    def test_a_large_answer_is_converted_whole(self) -> None:
        rows = rows_to_dicts([[number, "x"] for number in range(10_000)], ("n", "x"))
        assert [row["n"] for row in rows] == list(range(10_000))

    @pytest.mark.parametrize("columns", [("a", "b"), ()])
    def test_no_rows_are_no_rows(self, columns: tuple[str, ...]) -> None:
        assert rows_to_dicts([], columns) == []

    def test_rows_without_columns_are_empty(self) -> None:
        assert rows_to_dicts([[], []], ()) == [{}, {}]

    @pytest.mark.parametrize(
        ("rows", "columns"),
        [
            ([[1, 2], [1]], ("a", "b")),
            ([[1, 2], [1, 2, 3]], ("a", "b")),
            ([[1, 2], []], ("a", "b")),
            ([[1]], ()),
            ([[[1, 2]]], ("a", "b")),
        ],
    )
    def test_a_row_of_another_length_is_an_error(self, rows: list[Any], columns: tuple[str, ...]) -> None:
        with pytest.raises(ResponseFormatError, match=f"does not fit its {len(columns)} columns; nothing of it"):
            rows_to_dicts(rows, columns)

    @pytest.mark.parametrize("row", ["ab", {"a": 1, "b": 2}, None, 5, (1, 2)])
    @pytest.mark.parametrize("before", [[], [[1, 2]]])
    def test_a_row_that_is_no_list_is_an_error(self, row: Any, before: list[Any]) -> None:
        with pytest.raises(ResponseFormatError, match="a row that is no list"):
            rows_to_dicts([*before, row], ("a", "b"))


class TestQueryResult:
    def test_it_is_a_list_of_rows_that_knows_its_facts(self) -> None:
        result = QueryResult([{"a": 1, "b": "x"}], INFO)
        assert result == [{"a": 1, "b": "x"}]
        assert isinstance(result, list)
        assert (result.columns, result.types) == (["a", "b"], ["UInt64", "String"])
        assert (result.truncated, result.is_cached, result.query_id) == (True, True, "q-1")
        assert result.last_refresh == "2024-01-01T00:00:00Z"
        assert result.info.limit == 100

    def test_without_facts_it_claims_none(self) -> None:
        result = QueryResult()
        assert (result, result.columns, result.types, result.truncated) == ([], [], [], False)
        assert (result.query_id, result.is_cached, result.last_refresh) == (None, None, None)

    def test_callers_get_copies_of_the_columns(self) -> None:
        result = QueryResult([], INFO)
        result.columns.append("c")
        result.types.clear()
        assert (result.columns, result.types) == (["a", "b"], ["UInt64", "String"])

    def test_it_survives_pickling_and_copying(self) -> None:
        result = QueryResult([{"a": 1}], INFO)
        for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
            assert type(again) is QueryResult
            assert (again, again.info) == (result, INFO)
