"""The rows of ``posthog_schema``'s answers: what is shown first, and how it is written. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver.tools.layout import Block
from posthog_driver.tools.names import bare_property, nearest, written_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from posthog_driver.tools.pii import ColumnPolicy, Masking

__all__ = [
    "MOST_SAMPLES",
    "SAMPLES_OF",
    "SAMPLE_CELL",
    "Asked",
    "about",
    "grouped",
    "in_one_line",
    "is_made_of_another",
    "own_first",
    "property_types",
    "samples",
    "table_rows",
    "unknown",
]

SAMPLE_CELL = 24
"""Characters of a sample value."""

MOST_SAMPLES = 2
"""Sample values of a property."""
SAMPLES_OF = {"boolean": 0, "numeric": 1, "datetime": 1}
"""Fewer where the type says enough."""

_SHORT_TABLES = 40
# An id tells nothing but that it is one.
_ID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}")
_GROUP_CELL = 1_000
_ABOUT = {
    "events": "what happened: a row per event",
    "persons": "who did it; from events: person.properties.NAME",
    "sessions": "visits; from events: session.NAME",
    "groups": "companies and other groups",
}


_INNER_LINKS = ("pdi", "poe")
"""Ways by which ``person`` is found; PostHog asks for ``person`` to be used in their place."""


class Asked(NamedTuple):
    """The arguments, empty where not given."""

    object: str
    event: str
    property: str
    search: str
    detail: str

    def wants_all(self) -> bool:
        """Return whether the long answer is wanted."""
        return self.detail == "all"

    def fits(self, name: str) -> bool:
        """Return whether the search, if there is one, finds the name."""
        return self.search.casefold() in name.casefold()


def unknown(kind: str, name: str, known: Iterable[str]) -> Block:
    """Return the answer to a name that does not exist: the nearest ones."""
    return Block(
        ("nearest",),
        [[candidate] for candidate in nearest(name, known)],
        problem=f"unknown_{kind}",
        facts=("nothing was run",),
        notes=(
            f"fix: there is no {kind} of this name; those nearest to it are below",
            "next: call posthog_schema again",
        ),
    )


def table_rows(objects: list[str], asked: Asked, *, is_live: bool = True) -> list[list[Any]]:
    """Return the tables: those that hold the data with a few words each, then the others by name.

    Args:
        objects: Names of everything that the client's discovery knows.
        asked: What is searched for, and at which length.
        is_live: Whether the project's schema answered; of the static one only the tables that hold the data are sure.
    """
    known = set(objects)
    # What REST knows under a short name, HogQL knows as a table of `system`.
    others = [name for name in objects if name not in _ABOUT and f"system.{name}" not in known and asked.fits(name)]
    others = [name for name in others if is_live and not name.startswith("system.information_schema.")]
    rows: list[list[Any]] = [
        ["table", name, about] for name, about in _ABOUT.items() if name in known and asked.fits(name)
    ]
    if asked.search or asked.wants_all():
        rows += [["table", name, None] for name in others]
    elif others:
        rows.append(["tables", " ".join(others[:_SHORT_TABLES]), _and_more(len(others) - _SHORT_TABLES)])
    return rows


def _and_more(number: int) -> str | None:
    return f'and {number} more: detail="all"' if number > 0 else None


def property_types(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the types of the properties among the fields, by the names as they were sent."""
    found = ((bare_property(path), str(facts["type"])) for path, facts in fields.items())
    return {name: kind for name, kind in found if name is not None}


def own_first(names: list[str], most: int) -> list[str]:
    """Return ``most`` of the names: up to two thirds are the project's own, the others PostHog's (``$...``)."""
    own = [name for name in names if not name.startswith("$")]
    system = [name for name in names if name.startswith("$")]
    places = max(most * 2 // 3, most - len(system))
    return [*own[:places], *system[: most - min(places, len(own))]]


def grouped(names: Iterable[tuple[str, str, str | None]]) -> list[list[str]]:
    """Return rows of a type and the names that have it, own ones first; a long list takes several rows.

    Args:
        names: Each name, how it is written, and its type.
    """
    groups: dict[tuple[bool, str], list[str]] = {}
    for name, written, kind in names:
        groups.setdefault((name.startswith("$"), kind or "unknown"), []).append(written)
    rows = []
    for (_, group), members in sorted(groups.items()):
        line = ""
        for member in members:
            if line and len(line) + len(member) >= _GROUP_CELL:
                rows.append([group, line])
                line = ""
            line += f" {member}" if line else member
        rows.append([group, line])
    return rows


def is_made_of_another(name: str, columns: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a column only serves another one, as ``elements_chain_href`` and PostHog's inner links do."""
    texts = (other for other, facts in columns.items() if facts["type"] == "string")
    return name in _INNER_LINKS or any(name.startswith(f"{other}_") for other in texts)


def in_one_line(columns: Iterable[str]) -> str:
    """Return the columns as they are written; a row of numbered ones is ``group_0..group_4``."""
    runs: list[list[str]] = []
    for name in columns:
        stem, _, number = name.rpartition("_")
        if runs and number.isdecimal() and runs[-1][-1] == f"{stem}_{int(number) - 1}":
            runs[-1].append(name)
        else:
            runs.append([name])
    return " ".join(
        f"{written_column(run[0])}..{written_column(run[-1])}" if len(run) > 2 else " ".join(map(written_column, run))
        for run in runs
    )


def samples(name: str, raws: list[str], masking: Masking, policy: ColumnPolicy) -> tuple[str | None, bool]:
    """Return a few values in one text, and whether one was cut."""
    kind = policy.kind(name) if policy.mode != "show" else None
    if kind:
        return f"[{kind}]", False
    texts = [str(masking.cell(name, _sample_text(raw))) for raw in raws]
    if texts and _ID.fullmatch(texts[0]):
        return f"{texts[0][:8]}…", True
    cut = [text if len(text) <= SAMPLE_CELL else f"{text[: SAMPLE_CELL - 1]}…" for text in texts]
    return "; ".join(dict.fromkeys(cut)) or None, cut != texts


def _sample_text(raw: str) -> str:
    """Return raw JSON as HogQL reads a property: without outer quotes, other escapes as they are."""
    return raw.removeprefix('"').removesuffix('"')


def about(facts: Mapping[str, Any]) -> str | None:
    """Return what a column holds, where somebody said more than its type."""
    if facts.get("table"):
        return f"fields of {facts['table']}"
    said = str(facts.get("description") or "")
    return None if said.startswith(f"{facts['type']} column of") else said
