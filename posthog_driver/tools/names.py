"""Names that exist, how they are written in HogQL, and which of them was meant by one that does not exist."""

from __future__ import annotations

import difflib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver.query_builder import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Names", "bare_property", "nearest", "written_column", "written_property"]

_PREFIX = "properties."
_QUOTED = re.compile(r"properties\['((?:[^'\\]|\\.)*)'\]", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
# Names that are compared one by one; similarity beyond these costs more than it helps.
_MOST_COMPARED = 5_000


class Names(NamedTuple):
    """Every name that a query can use.

    Attributes:
        tables: Tables, views and entities.
        events: Names of events.
        properties: Names of event properties, as they were sent.
        person_properties: Names of person properties.
        fields: Columns of each table, without properties.
    """

    tables: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    person_properties: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @classmethod
    def of(cls, fields: Mapping[str, Mapping[str, Any]], events: Iterable[str] = ()) -> Names:
        """Return the names in what `PostHogClient.get_fields` says of each table."""

        def properties(table: str) -> tuple[str, ...]:
            found = (bare_property(path) for path in fields.get(table, ()))
            return tuple(name for name in found if name is not None)

        columns = {
            table: tuple(name for name in known if bare_property(name) is None) for table, known in fields.items()
        }
        return cls(tuple(fields), tuple(events), properties("events"), properties("persons"), columns)


def bare_property(path: str) -> str | None:
    """Return ``file-kind`` of ``properties['file-kind']``, or None if the path is not that of a property."""
    if path.startswith(_PREFIX):
        return path[len(_PREFIX) :]
    quoted = _QUOTED.fullmatch(path)
    return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL) if quoted else None


def written_property(name: str) -> str:
    """Return the name if ``properties.name`` is valid HogQL, else the whole path: ``properties['file-kind']``."""
    if _PLAIN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"properties['{escaped}']"


def written_column(name: str) -> str:
    """Return the name of a column as HogQL reads it: as it is, or in backticks."""
    return name if _PLAIN.fullmatch(name) else quote_identifier(name)


def nearest(name: str, known: Iterable[str], most: int = 5) -> list[str]:
    """Return the known names that are most like ``name``, the likeliest first; perhaps none."""
    wanted = name.casefold()
    by_key: dict[str, str] = {}
    for candidate in known:
        by_key.setdefault(candidate.casefold(), candidate)
        if len(by_key) == _MOST_COMPARED:
            break
    alike = difflib.get_close_matches(wanted, by_key, most, 0.6)
    parts = [key for key in by_key if wanted and (wanted in key or (len(key) > 2 and key in wanted))]
    return [by_key[key] for key in dict.fromkeys([*alike, *sorted(parts, key=len)])][:most]
