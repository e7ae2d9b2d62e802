"""JSON in and out: strict when encoding, tolerant when decoding, and kind to the garbage collector.

With the optional package msgspec (``pip install "posthog-driver[fast]"``) large answers decode about three times
faster; what it refuses and the standard library accepts (NaN, lone surrogates) is decoded by the latter, so that the
values are the same.
"""

from __future__ import annotations

import gc
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["decode", "encode", "promoted"]

LARGE = 256 << 10
"""Bytes from which an answer counts as large: the collector is held back while it is decoded."""

MEDIUM = 8 << 10
"""Bytes from which the optional decoder pays."""

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
# Where the splice below pays was measured: decoding takes 0.6 of the time on CPython 3.10 and 3.11, 0.7 on 3.13, and
# nothing less on 3.12, whose collector runs at other moments.
_PROMOTES = sys.implementation.name == "cpython" and sys.version_info[:2] in {(3, 10), (3, 11), (3, 13)}


def encode(value: Any) -> bytes:
    """Encode compactly; NaN and infinity are refused with a ValueError, unknown types with a TypeError."""
    return _ENCODER.encode(value).encode()


def decode(body: bytes | bytearray) -> Any:
    """Decode JSON; raises ValueError for what is none, RecursionError for what is nested too deeply."""
    if len(body) < MEDIUM:
        return json.loads(body)
    with promoted(len(body)):
        return _fast(body)


@contextmanager
def promoted(size: int) -> Iterator[None]:
    """Hold the cyclic collector back while many objects are made, and then put them in the oldest generation.

    A decoded answer is a tree and not garbage, yet the collector walks it again and again while it grows: half of the
    time of decoding 50,000 rows. freeze() and unfreeze() only splice lists, so that the new objects are not walked at
    once when the collector comes back. Nothing is done for small answers, when somebody else froze or disabled the
    collector (as pre-fork servers do), or on interpreters with another collector.

    Args:
        size: Bytes of the answer that is being turned into objects.
    """
    if size < LARGE or not _PROMOTES or not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def _fast(body: bytes | bytearray) -> Any:
    loads = _decoder()
    try:
        return loads(body)
    except ValueError:
        return json.loads(body)


def _decoder() -> Callable[[bytes | bytearray], Any]:
    """Return msgspec's decoder where it is installed; imported on the first large answer only."""
    try:
        from msgspec.json import decode as loads
    except ImportError:
        return json.loads
    return loads
