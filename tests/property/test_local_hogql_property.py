"""Whatever text, number or name goes into a query: it comes out of the real engine as itself, and nothing else does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthog_driver.local.hogql import HogQLError, translate
from posthog_driver.local.schema import Catalog, hogql_name, quote_literal
from posthog_driver.local.storage import property_sql

WORKER = Path(__file__).parents[1] / "contract" / "test_hogql_corpus.py"
CATALOG = Catalog()
EVIL = st.text(st.sampled_from("'\"`\\%\0\n\r\t\b\f\v\a;-/*#(){}$ aé\u2028😀"), max_size=20)
TEXTS = EVIL | st.text(max_size=30).filter(lambda text: text.isprintable() or text.isascii())
SOME = settings(max_examples=150)

Run = Callable[[str], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a statement on an engine in a child process: the rows, or the error as text."""
    with subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answer = process.stdin, process.stdout

        def statement(sql: str) -> Any:
            ask.write(json.dumps([sql]) + "\n")
            ask.flush()
            found = json.loads(answer.readline())[0]
            return found if isinstance(found, str) else found[0]

        yield statement
        ask.close()
        process.wait(30)


WORDS = """
select from events where event ( ) [ ] { } , . * + - = 'x' 1 `a` group by limit 5 offset union all with as file (
'/etc/passwd' ) system.tables numbers join on in properties . $browser and not null order by over settings final ;
format into outfile insert :: int case when then end -> < b > /
"""


@SOME
@given(text=TEXTS)
def test_a_text_comes_back_as_it_went_in(run: Run, text: str) -> None:
    assert run(translate("select {value}", CATALOG, values={"value": text}).sql) == [[text]]


@SOME
@given(number=st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_comes_back_as_it_went_in(run: Run, number: float) -> None:
    rows = run(translate("select {value}", CATALOG, values={"value": number}).sql)
    # The engine's JSON has the fewest digits that give the same float, so an integer in it may be a float's.
    assert type(number)(rows[0][0]) == number


@SOME
@given(texts=st.lists(TEXTS, max_size=5))
def test_a_list_of_texts_comes_back_as_it_went_in(run: Run, texts: list[str]) -> None:
    assert run(translate("select {value}", CATALOG, values={"value": texts}).sql) == [[texts]]


@SOME
@given(key=TEXTS, value=st.integers(0, 9))
def test_a_property_of_any_name_is_read_by_that_name(run: Run, key: str, value: int) -> None:
    document = json.dumps({key: value, key + "x": 77}, ensure_ascii=False)
    assert run(f"SELECT {property_sql(quote_literal(document), (key,))}") == [[str(value)]]


@SOME
@given(name=TEXTS)
def test_a_name_of_any_kind_is_a_name_or_is_refused(run: Run, name: str) -> None:
    query = f"select a.{hogql_name(name)} from (select 1 as {hogql_name(name)}) as a"
    # The parser drops NUL from names and texts.
    if name.replace("\0", "") == "" or "%" in name or name.lower() in ("true", "false", "null", "team_id"):
        with pytest.raises(HogQLError):
            translate(query, CATALOG)
    else:
        assert run(translate(query, CATALOG).sql) == [[1]]


@settings(max_examples=300)
@given(query=st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join))
def test_any_text_is_translated_or_refused_and_never_breaks_the_translator(query: str) -> None:
    with contextlib.suppress(HogQLError):
        printed = translate(query, CATALOG).sql
        assert "file(" not in printed
        assert "OUTFILE" not in printed
        assert "SETTINGS" not in printed.upper()
