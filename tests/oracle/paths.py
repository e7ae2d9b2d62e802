"""Paths over raw events: what people do one after the other, without a pause of half an hour."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from .events import Event

__all__ = ["edges", "item_of"]

Visit = tuple[datetime, str]


def item_of(event: Event) -> str:
    """Return what an event is called by default."""
    if event.name == "$pageview":
        return re.sub(r"(.)/$", r"\1", event.get("$current_url") or "")
    if event.name == "$screen":
        return str(event.get("$screen_name") or "")
    return event.name


def edges(
    events: Mapping[Any, Sequence[Event]],
    item: Callable[[Event], str] = item_of,
    *,
    steps: int = 5,
    start: str | None = None,
    end: str | None = None,
    limit: int = 50,
    least: int = 0,
    most: int | None = None,
) -> list[tuple[str, str, int, float]]:
    """Return source, target, how often, and milliseconds on average.

    Args:
        events: Each person's in their order of time, ties by uuid.
        item: What an event is called.
        steps: Longest path.
        start: Where paths begin.
        end: Where paths end.
        limit: Most edges.
        least: Smallest weight of an edge.
        most: Largest one.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for own in events.values():
        for session in _sessions([(event.timestamp, item(event)) for event in own]):
            path = _cut(_compact(session), steps, start, end)
            for i, ((left, source), (arrived, target)) in enumerate(pairwise(path), 1):
                key = (f"{i}_{source}", f"{i + 1}_{target}")
                found.setdefault(key, []).append((arrived - left).total_seconds() * 1000)
    rows = [(*key, len(times), sum(times) / len(times)) for key, times in found.items()]
    rows = [row for row in rows if row[2] >= least and (most is None or row[2] <= most)]
    shown = sorted(rows, key=lambda row: (-row[2], row[0].encode(), row[1].encode()))[:limit]
    reachable = {row[0] for row in shown if row[0].startswith("1_")}
    while more := {row[1] for row in shown if row[0] in reachable} - reachable:
        reachable |= more
    return [row for row in shown if row[0] in reachable]


def _sessions(visits: Sequence[Visit]) -> list[list[Visit]]:
    sessions: list[list[Visit]] = []
    for visit in visits:
        if not sessions or visit[0] - sessions[-1][-1][0] >= timedelta(minutes=30):
            sessions.append([])
        sessions[-1].append(visit)
    return sessions


def _compact(session: Sequence[Visit]) -> list[Visit]:
    """Of the same thing several times in a row the last; a nameless one does not end a path."""
    following = [item for _, item in session[1:]] + [""]
    return [visit for visit, after in zip(session, following, strict=True) if visit[1] != after]


def _cut(path: list[Visit], steps: int, start: str | None, end: str | None) -> list[Visit]:
    items = [item for _, item in path]
    if start and end:
        if start not in items:
            return []
        path = path[items.index(start) :]
        items = [item for _, item in path]
        if end not in items:
            return []
        path = path[: items.index(end) + 1]
        if len(path) <= steps:
            return path
        half = steps // 2
        return [*path[:half], (path[half][0], "..."), *(path[-half:] if half else [])]
    point = start or end
    if point and len(point) > 1 and point.endswith("/"):
        point = point[:-1]
    if point and point not in items:
        return []
    if start:
        return path[items.index(str(point)) :][:steps]
    return path[: items.index(str(point)) + 1][-steps:] if end else path[:steps]
