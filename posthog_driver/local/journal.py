"""A file that keeps entities: its first line is all of them, each line after it one change.

A change is appended and never written in place, so a crash loses at most the change that was being written; what a
change costs does not grow with the file. Opening it writes it anew when it has changes.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import reading, write_json

__all__ = ["Change", "Journal", "State"]

_LOG = logging.getLogger(__name__)

Entity = dict[str, Any]
State = dict[str, dict[str, Entity]]
"""Entities by kind and key."""

Change = tuple[str, str, "Entity | None"]
"""Kind, key, and the entity as it is now; None when it is gone."""


class Journal:
    """The file.

    Args:
        path: Where it is; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> dict[str, list[Entity]] | None:
        """Return the entities by kind with all changes made, None when there is no file.

        Raises:
            DamagedFile: What is in it are no entities.
        """
        if self._path is None or not self._path.exists():
            return None
        with reading(self._path):
            return self._read(self._path)

    def _read(self, path: Path) -> dict[str, list[Entity]]:
        first, *changes = path.read_text(encoding="utf-8").split("\n")
        kept: dict[str, list[Entity]] = json.loads(first)
        state = {kind: {key_of(kind, entity): entity for entity in entities} for kind, entities in kept.items()}
        for number, line in enumerate(changes, 1):
            try:
                kind, key, entity = json.loads(line)
            except ValueError:
                if number < len(changes):
                    raise
                _LOG.warning("%s: the last change was cut by a crash and is left out", path)
                continue
            if entity is None:
                state[kind].pop(key, None)
            else:
                state.setdefault(kind, {})[key] = entity
        found = {kind: list(entities.values()) for kind, entities in state.items()}
        if changes:
            self._write(found)
        return found

    def begin(self, state: Mapping[str, Mapping[str, Entity]]) -> None:
        """Write a new file."""
        self._write({kind: list(entities.values()) for kind, entities in state.items()})

    def append(self, changes: Iterable[Change]) -> None:
        """Keep changes; they are on the disk when this returns."""
        if self._path is None:
            return
        text = "".join("\n" + json.dumps(change) for change in changes).encode()
        with open(self._path, "ab") as file:
            size = file.tell()
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self._path, size)  # half a line in the middle would be damage
                raise

    def _write(self, kept: Mapping[str, list[Entity]]) -> None:
        if self._path is not None:
            write_json(self._path, kept)


def key_of(kind: str, entity: Mapping[str, Any]) -> str:
    """Return what identifies an entity among those of its kind."""
    return str(entity["group_type_index" if kind == "group_types" else "id"])
