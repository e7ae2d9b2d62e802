"""No value is lost or changed between an answer's text and the rows, by whichever decoder."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthog_driver import _codec
from posthog_driver._codec import decode, encode
from posthog_driver.results import rows_to_dicts, unique_names

NAMES = st.lists(st.sampled_from(["x", "x_2", "x_3", "x_2_2", ""]) | st.text(max_size=4), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)
CELLS = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
LITERALS = st.sampled_from(['"', "\\", "u", "d800", *"[]{},:-01. ", "e9", "null", "NaN", "\xff", "\xef\xbb\xbf", "\0"])


@pytest.fixture(autouse=True, scope="module")
def every_answer_is_large() -> Any:
    """Small texts take the fast way too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_codec, "LARGE", 0)
        yield


def same(one: Any, other: Any) -> bool:
    """Equality of types and values, NaN with itself and 0.0 not with -0.0."""
    return type(one) is type(other) and repr(one) == repr(other)


@given(NAMES)
def test_unique_names_are_unique_and_keep_every_first_name(names: list[str]) -> None:
    unique = unique_names(names)
    assert len(unique) == len(names) == len(set(unique))
    assert set(names) <= set(unique)
    for place, (name, made) in enumerate(zip(names, unique, strict=True)):
        assert made == name if name not in names[:place] else made.startswith(f"{name}_")
    assert unique_names(unique) == unique


@given(st.data(), NAMES)
def test_rows_and_their_dicts_hold_the_same_values(data: st.DataObject, names: list[str]) -> None:
    columns = unique_names(names)
    row = st.lists(CELLS, min_size=len(columns), max_size=len(columns))
    rows = data.draw(st.lists(row, max_size=5))
    kept = [list(row) for row in rows]
    dicts = rows_to_dicts(rows, columns)
    assert [tuple(item) for item in dicts] == [columns] * len(kept)
    assert [list(item.values()) for item in dicts] == kept


@settings(max_examples=200)
@given(JSON, st.booleans())
def test_both_decoders_read_the_same_values(value: Any, plain: bool) -> None:
    body = json.dumps(value, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    assert same(decode(body), json.loads(body))
    assert same(decode(bytearray(body)), value)


@settings(max_examples=200)
@given(st.lists(LITERALS, max_size=8).map(lambda parts: "".join(parts).encode("latin-1")))
def test_both_decoders_refuse_the_same_texts(body: bytes) -> None:
    try:
        expected = json.loads(body)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - each decoder has its own words
            decode(body)
    else:
        assert same(decode(body), expected)


@given(JSON)
def test_what_is_encoded_reads_back_and_what_json_cannot_hold_is_refused(value: Any) -> None:
    def finite(item: Any) -> bool:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return not (isinstance(item, float) and not math.isfinite(item)) and all(map(finite, inner))

    if finite(value):
        assert same(json.loads(encode(value)), value)
    else:
        with pytest.raises(ValueError, match="JSON compliant"):
            encode(value)
