"""A line for each call, with no row and no key in it; and the filter that texts pass on their way out."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from posthog_driver.logging_config import forget_secret, register_secret
from posthog_driver.tools.audit import Audit, Call, scrub, scrub_keys

CALL = Call(
    "c1",
    "posthog_query",
    {"query": "SELECT {who}", "values": {"who": "ada@example.com", "n": 42}, "max_rows": 5, "check_only": True},
    True,
    "ok",
    {"query_id": "id", "rows": 3},
    0.0421,
)


def line(call: Call = CALL, **options: Any) -> dict[str, Any]:
    lines: list[str] = []
    Audit(lines.append, **options).write(call, 1_700_000_000.5)
    (text,) = lines
    assert "\n" not in text
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_a_line_says_who_what_when_and_how_it_ended() -> None:
    written = line()

    assert written["time"] == "2023-11-14T22:13:20.500+00:00"
    assert written["conversation"] == "c1"
    assert written["tool"] == "posthog_query"
    assert (written["query_id"], written["rows"], written["ms"], written["outcome"]) == ("id", 3, 42, "ok")


def test_values_are_hashed_and_choices_are_shown() -> None:
    arguments = line()["arguments"]

    assert arguments["max_rows"] == 5
    assert arguments["check_only"] is True
    assert arguments["query"].startswith("hash:")
    assert set(arguments["values"]) == {"who", "n"}
    assert arguments["values"]["who"].startswith("hash:")
    assert arguments["values"]["n"].startswith("hash:")


def test_the_same_value_has_the_same_hash_under_the_same_secret_only() -> None:
    first, again = (line(secret=b"s")["arguments"]["query"] for _ in range(2))

    assert first == again
    assert first != line(secret=b"other")["arguments"]["query"]
    assert first != line()["arguments"]["query"]


def test_arguments_that_did_not_fit_are_hashed_names_and_all() -> None:
    written = line(CALL._replace(valid=False, arguments={"ada@example.com": "x", "max_rows": "ada@example.com"}))

    assert all(name.startswith("hash:") and value.startswith("hash:") for name, value in written["arguments"].items())


def test_a_tool_that_is_none_is_hashed() -> None:
    assert line(CALL._replace(tool="ada@example.com"))["tool"].startswith("hash:")


@pytest.mark.parametrize("arguments", [None, "text", [1, None, {"a": "x"}], 5])
def test_arguments_of_any_shape_make_a_line(arguments: Any) -> None:
    assert "arguments" in line(CALL._replace(valid=False, arguments=arguments))


def test_plain_values_are_shown_without_secrets() -> None:
    arguments = {"query": "SELECT 'phx_abcdefghij123456'", "values": {"n": 42, "list": ["a"]}}
    written = line(CALL._replace(arguments=arguments), values="plain")

    assert written["arguments"] == {"query": "SELECT 'phx_ab...56'", "values": {"n": 42, "list": ["a"]}}


def test_a_logger_gets_the_line_as_a_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "audit.test")
    Audit(logging.getLogger("audit.test")).write(CALL, 0.0)

    (record,) = caplog.records
    assert json.loads(record.getMessage())["outcome"] == "ok"


def test_a_sink_that_fails_is_logged_without_secrets_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_line: str) -> None:
        raise OSError("disk of phx_abcdefghij123456 is full")

    Audit(broken).write(CALL, 0.0)

    (record,) = caplog.records
    assert "an audit line could not be written: OSError: disk of phx_ab...56 is full" in record.getMessage()


def test_arguments_too_deep_for_a_line_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    lines: list[str] = []
    Audit(lines.append).write(CALL._replace(valid=False, arguments=deep), 0.0)

    assert not lines
    assert "RecursionError" in caplog.text


def test_there_are_two_ways_to_show_values() -> None:
    with pytest.raises(ValueError, match="hashed"):
        Audit(print, values="raw")


# The filter -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", "aersx")
def test_each_kind_of_key_is_masked_wherever_it_stands(letter: str) -> None:
    key = f"ph{letter}_" + "Ab12" * 8

    for text in (key, f'"{key}"', f"a,{key},b", f"path/{key}?x", f"word{key}", f"{key}\n{key}"):
        assert key not in scrub_keys(text)
        assert key not in scrub(text)
        assert len(scrub_keys(text).split("\n")) == len(text.split("\n"))


@pytest.mark.parametrize("text", ["alpha_users", "graphs_daily", "phone", "epha_x", "ph_x", "phr_", ""])
def test_words_that_only_look_alike_stay(text: str) -> None:
    assert scrub(text) == text


def test_a_key_without_a_known_shape_is_masked_while_a_client_uses_it() -> None:
    register_secret("a key of its own kind")
    try:
        assert scrub("it is a key of its own kind.") == "it is a key ...nd."
    finally:
        forget_secret("a key of its own kind")
