"""What the fake service saw, and every place where a secret shows in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Entry", "Journal"]


class Entry(NamedTuple):
    """One request to the service, or one observation of what goes on inside a sandbox.

    Attributes:
        place: Where it was seen, such as ``create``, ``files``, ``run.command``, ``stdin``, ``log``.
        sandbox: The sandbox, or None before there is one.
        value: What was seen there.
    """

    place: str
    sandbox: str | None
    value: Any


class Journal:
    """Entries in the order in which they came; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def note(self, place: str, sandbox: str | None, value: Any) -> None:
        """Add an entry."""
        with self._lock:
            self._entries.append(Entry(place, sandbox, value))

    def of(self, place: str) -> list[Any]:
        """Return what was seen at a place, oldest first."""
        with self._lock:
            return [entry.value for entry in self._entries if entry.place == place]

    def where(self, secret: str) -> list[str]:
        """Return the places where a text shows, sorted.

        Bodies of ``create`` are named by their field (``create.network.rules``, ``create.envVars``), the rest by the
        place itself. A secret is also found where JSON escaped it.
        """
        needles = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        with self._lock:
            entries = list(self._entries)
        return sorted(
            {name for entry in entries for name, text in _texts(entry) if any(needle in text for needle in needles)}
        )


def _texts(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.place == "create":
        for field, value in entry.value.items():
            if field == "network":
                for inner, part in value.items():
                    yield f"create.network.{inner}", json.dumps(part)
            else:
                yield f"create.{field}", json.dumps(value)
    elif isinstance(entry.value, bytes):
        yield entry.place, entry.value.decode("utf-8", "replace")
    else:
        yield entry.place, entry.value if isinstance(entry.value, str) else json.dumps(entry.value)
