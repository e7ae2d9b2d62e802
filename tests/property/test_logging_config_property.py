"""logging_config: for every record one line of valid JSON, and no registered or prefixed key in it."""

from __future__ import annotations

import json
import logging
import string
import urllib.parse
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.logging_config import (
    StructuredFormatter,
    forget_secret,
    mask_api_key,
    redact,
    register_secret,
)

TEXT = st.text(st.characters(), max_size=40)  # lone surrogates included
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(max_size=20), st.complex_numbers()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(TEXT, st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=12,
)
TAILS = st.text(string.ascii_letters + string.digits + "_-", min_size=8, max_size=40)
PREFIXED = (
    st.tuples(st.sampled_from(["phx_", "phc_", "phs_", "pha_", "e2b_", "sk-ant-"]), TAILS)
    .map("".join)
    .filter(
        lambda key: not key.startswith("e2b_api_key")  # the name of a setting
    )
)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), min_size=12, max_size=40).filter(
    lambda key: "..." not in key and "***" not in key
)
NAMES = TEXT.filter(lambda name: name not in vars(logging.makeLogRecord({})))


def line_of(message: str, args: tuple[Any, ...], extra: dict[str, Any]) -> str:
    record = logging.makeLogRecord({"msg": message, "args": args, "levelname": "INFO", "name": "x", **extra})
    formatter = StructuredFormatter()
    first = formatter.format(record)
    assert formatter.format(record) == first
    assert first.isascii()
    assert "\n" not in first
    str(json.loads(first, parse_constant=pytest.fail)).encode()  # no NaN, no lone surrogate
    return first


@given(TEXT, st.lists(VALUES, max_size=3), st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_record_is_one_line_of_strict_json_with_every_extra_field(
    message: str, args: list[Any], extra: dict[str, Any]
) -> None:
    fields = json.loads(line_of(message, tuple(args), extra))
    named = {"timestamp", "level", "logger", "message"}
    assert named <= fields.keys()
    assert len(fields) >= len(named) + len(extra.keys() - {"message", "asctime", "taskName"})


@given(PREFIXED, TEXT, TEXT)
def test_a_prefixed_key_shows_nowhere(key: str, before: str, after: str) -> None:
    text = f"{before} {key} {after}"
    for message, args, extra in ((text, (), {}), ("%s", (text,), {}), ("x", (), {text: {text: [text]}})):
        assert key not in line_of(message, args, extra)


@given(PLAIN, TEXT, TEXT)
def test_a_registered_key_shows_nowhere_however_it_was_escaped(key: str, before: str, after: str) -> None:
    register_secret(key)
    try:
        for shown in (key, json.dumps(key)[1:-1], repr(key)[1:-1], urllib.parse.quote(key, safe="")):
            text = f"{before}{shown}{after}"
            assert shown not in redact(text)
            fields = json.loads(line_of("%s", (text,), {"value": [shown]}))
            assert shown not in fields["message"]
            assert shown not in fields["value"][0]
    finally:
        forget_secret(key)


@given(
    PLAIN,
    st.sampled_from(["Bearer {}", "?api_key={}", '{{"token": "{}"}}', "password='{}'", "https://u:{}@h/"]),
)
def test_masking_twice_is_masking_once(key: str, place: str) -> None:
    once = redact(place.format(key))
    assert redact(once) == once


@given(st.text(max_size=200))
def test_a_mask_never_shows_more_than_two_thirds(key: str) -> None:
    mask = mask_api_key(key)
    assert max(len(mask) - 3, 0) <= len(key) * 2 / 3
    assert len(mask) <= 11


@given(st.floats(min_value=0, max_value=4e9))
def test_timestamps_say_when_the_record_was_made(created: float) -> None:
    record = logging.makeLogRecord({"created": created, "msg": "x"})
    said = datetime.fromisoformat(json.loads(StructuredFormatter().format(record))["timestamp"])
    assert abs(said.timestamp() - created) < 1e-5
