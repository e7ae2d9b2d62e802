"""A shelf for answers: as encoded JSON, weighed, and the oldest go when there are too many bytes."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any

__all__ = ["Shelf"]


class Shelf:
    """Keeps answers by name, up to a number of bytes in all. Thread-safe.

    Args:
        max_bytes: Bytes of JSON that are kept; the newest answer stays even if it is larger alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, name: str, answer: bytes) -> None:
        """Keep an answer in place of the one of that name, and let the oldest go."""
        with self._lock:
            self._drop(name)
            self._answers[name] = answer
            self._bytes += len(answer)
            while self._bytes > self._max_bytes and len(self._answers) > 1:
                self._drop(next(iter(self._answers)))

    def get(self, name: str) -> dict[str, Any] | None:
        """Return the answer of that name, None when it has gone."""
        with self._lock:
            answer = self._answers.get(name)
        if answer is None:
            return None
        found: dict[str, Any] = json.loads(answer)
        return found

    def drop(self, name: str) -> None:
        """Let an answer go, if it is there."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._bytes -= len(self._answers.pop(name, b""))
