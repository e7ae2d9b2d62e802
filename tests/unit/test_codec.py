"""JSON in and out: strict one way, tolerant the other, and the collector left as it was found."""

from __future__ import annotations

import builtins
import gc
import json
import math
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

from posthog_driver import _codec
from posthog_driver._codec import LARGE, decode, encode, promoted

BIG = 10**30


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """No test leaves the collector otherwise than it was."""
    assert gc.isenabled()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def without_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("msgspec"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def large(text: str) -> bytes:
    """An answer that takes the path of large ones; ``value`` is what it is about."""
    return f'{{"padding": "{"x" * LARGE}", "value": {text}}}'.encode("utf-8", "surrogatepass")


class TestEncode:
    def test_it_is_compact_ascii(self) -> None:
        assert encode({"a": [1, "é", None, True]}) == b'{"a":[1,"\\u00e9",null,true]}'

    def test_subclasses_of_plain_types_are_what_they_extend(self) -> None:
        class Number(IntEnum):
            ONE = 1

        assert encode([Number.ONE, BIG]) == b"[1,%d]" % BIG

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_json_has_no_number_for_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            encode({"a": [value]})

    @pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {("a",): 1}])
    def test_what_json_has_no_type_for_is_refused(self, value: object) -> None:
        with pytest.raises(TypeError):
            encode(value)


class TestDecode:
    @pytest.mark.parametrize("body", [b'{"a": [1, 2.5, "x", null]}', bytearray(b'{"a": [1, 2.5, "x", null]}')])
    def test_a_small_answer(self, body: bytes | bytearray) -> None:
        assert decode(body) == {"a": [1, 2.5, "x", None]}

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (str(BIG), BIG),
            (str(-(2**63) - 1), -(2**63) - 1),
            ("18446744073709551615", 2**64 - 1),
            ("0.1", 0.1),
            ("Infinity", math.inf),
            ("1e400", math.inf),
            ('"\\ud83d\\ude00"', "\U0001f600"),
            ('"\\ud800"', "\ud800"),
            ('"\ud800"', "\ud800"),
            ('{"a": 1, "a": 2}', {"a": 2}),
        ],
    )
    def test_a_large_answer_has_the_values_of_a_small_one(self, text: str, value: object) -> None:
        small = decode(text.encode("utf-8", "surrogatepass"))
        assert small == decode(large(text))["value"] == value
        assert type(small) is type(decode(large(text))["value"])

    def test_a_byte_order_mark_does_no_harm(self) -> None:
        assert decode(b"\xef\xbb\xbf[1]") == [1]
        assert decode(b"\xef\xbb\xbf" + large("1"))["value"] == 1

    def test_without_the_fast_package_the_values_are_the_same(self, without_msgspec: None) -> None:
        assert math.isnan(decode(large("NaN"))["value"])
        assert decode(large(str(BIG)))["value"] == BIG

    @pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1', b"\xff", b'{"a": 1}x', b"[" * 3])
    def test_what_is_no_json_is_a_value_error_whatever_its_size(self, body: bytes) -> None:
        for text in (body, body + b" " * LARGE):
            with pytest.raises(ValueError):  # noqa: PT011 - each decoder has its own words
                decode(text)

    @pytest.mark.parametrize("padding", [0, LARGE])
    def test_what_is_nested_too_deeply_is_a_recursion_error(self, padding: int) -> None:
        with pytest.raises(RecursionError):
            decode(b"[" * 100_000 + b" " * padding + b"]" * 100_000)

    def test_the_collector_rests_only_while_a_large_answer_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        states = []

        def loads(body: bytes) -> Any:
            states.append(gc.isenabled())
            return json.loads(body)

        monkeypatch.setattr(_codec, "_decoder", lambda: loads)
        monkeypatch.setattr(_codec, "_PROMOTES", True)
        assert decode(b"1") == 1
        assert decode(large("2"))["value"] == 2
        assert states == [False]
        assert gc.isenabled()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="only CPython's collector is held back")
class TestPromoted:
    @pytest.fixture(autouse=True)
    def promotes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_codec, "_PROMOTES", True)

    def test_new_objects_are_not_walked_by_a_young_collection(self) -> None:
        with promoted(LARGE):
            assert not gc.isenabled()
            made: list[list[int]] = [[] for _ in range(1_000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() == 0
        young = gc.get_objects(generation=0)
        assert not any(item is made for item in young)

    def test_an_error_inside_brings_the_collector_back(self) -> None:
        with pytest.raises(ValueError, match="inside"), promoted(LARGE):
            raise ValueError("inside")
        assert gc.isenabled()
        assert gc.get_freeze_count() == 0

    def test_a_small_answer_leaves_it_alone(self) -> None:
        with promoted(LARGE - 1):
            assert gc.isenabled()

    def test_a_collector_that_somebody_disabled_stays_disabled(self) -> None:
        gc.disable()
        with promoted(LARGE):
            pass
        assert not gc.isenabled()

    def test_what_somebody_froze_stays_frozen(self) -> None:
        gc.freeze()
        frozen = gc.get_freeze_count()
        with promoted(LARGE):
            assert gc.isenabled()
        assert gc.get_freeze_count() == frozen > 0

    def test_a_collector_of_another_kind_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_codec, "_PROMOTES", False)
        with promoted(LARGE):
            assert gc.isenabled()
