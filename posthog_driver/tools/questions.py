"""Answers to ``posthog_trend``, ``posthog_funnel`` and ``posthog_retention``: tables that a model reads at a glance.

The client asks and gives flat rows; here they are folded: a line for each interval with a column for each series, a
triangle for retention. A sentence above says in numbers what stands out. It names series and steps by their numbers, as
labels were sent by somebody and stand in the fence.
"""

from __future__ import annotations

import itertools
import re
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver.insights import OTHER
from posthog_driver.tools.cells import number_text
from posthog_driver.tools.layout import Block, count
from posthog_driver.tools.pii import ColumnPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from posthog_driver.client import PostHogClient
    from posthog_driver.results import QueryResult
    from posthog_driver.tools.pii import Masking

__all__ = ["answer", "funnel_block", "retention_block", "trend_block"]

_MOST_SERIES_COLUMNS = 30
_MOST_TIME_COLUMNS = 60
_SAID_SERIES = 5
_TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?")
_ADDITIVE = ("events", "sum")
_REST = "(all others)"
_UNSET = "(not set)"
_ROUNDED = "percent to one decimal"
_NOTHING = "nobody and nothing was counted: check the names with posthog_schema before reporting zero"


def answer(name: str, arguments: Mapping[str, Any], client: PostHogClient, policy: ColumnPolicy | None = None) -> Block:
    """Return what one of the three tools answers to valid arguments.

    Args:
        name: ``posthog_trend``, ``posthog_funnel`` or ``posthog_retention``.
        arguments: Its arguments.
        client: The client that is asked.
        policy: What becomes of personal data in labels; masked if None.

    Raises:
        ValidationError: an argument cannot be meant; nothing was sent.
        PostHogError: PostHog cannot be asked, or refused.
    """
    ask = getattr(client, _METHODS[name])
    result: QueryResult = ask(**arguments)
    masking = (policy or ColumnPolicy()).masking()
    block = _FOLDS[name](result, arguments, masking)
    facts = [f"{result.info.elapsed:.1f} s"]
    if result.is_cached:
        facts.append(
            f"from PostHog's cache of {result.last_refresh}" if result.last_refresh else "from PostHog's cache"
        )
    if result.info.timezone:
        facts.append(f"time zone {result.info.timezone}")
    notes = (*block.notes, *(_REST_NOTE if result.truncated else ()), *masking.notes())
    return block._replace(facts=(*facts, *block.facts), notes=notes, tool=name, advice="ask for less")


_METHODS = {"posthog_trend": "trends", "posthog_funnel": "funnel", "posthog_retention": "retention"}
_REST_NOTE = (f"values beyond the most frequent are summed up as {_REST}: narrow with where to tell them apart",)


# Trends --------------------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """One series of a trend: what tells it from the others, and its values by interval."""

    labels: tuple[Any, ...]
    times: tuple[str, ...]
    values: tuple[Any, ...]


def trend_block(result: QueryResult, arguments: Mapping[str, Any], masking: Masking) -> Block:
    """Return a trend with a line for each interval, for each series, or for both, whichever is easiest to read on.

    Compared periods stand side by side, interval by interval.
    """
    keys = [key for key in ("event", "breakdown", "period") if key in result.columns]
    lines = _lines(result, keys)
    by = str(arguments.get("by") or "")
    labels = [_labels(keys, line, by, masking) for line in lines]
    names = tuple(by if key == "breakdown" else key for key in keys)
    varying = [place for place in range(len(keys)) if len({line.labels[place] for line in lines}) > 1]
    now = [line for line in lines if not _is_past(line, keys)]
    times = _short_times(now[0].times if now else ())
    is_even = all(len(line.values) == len(times) for line in lines) and len({line.times for line in now}) == 1
    notes = list(_trend_notes(lines, keys, arguments))
    if is_even and len(varying) <= 1 and len(lines) <= _MOST_SERIES_COLUMNS:
        place = varying[0] if varying else 0
        columns = ("time", *(_as_name(own[place]) for own in labels))
        rows = [[time, *(line.values[number] for line in lines)] for number, time in enumerate(times)]
    elif is_even and len(times) <= _MOST_TIME_COLUMNS:
        columns = (*names, *times)
        rows = [[*own, *line.values] for own, line in zip(labels, lines, strict=True)]
    else:
        columns = ("time", *names, "value")
        rows = [
            [time, *own, value]
            for own, line in zip(labels, lines, strict=True)
            for time, value in zip(_short_times(line.times), line.values, strict=True)
        ]
        zeros = sum(not row[-1] for row in rows)
        if zeros:
            rows = [row for row in rows if row[-1]]
            notes.append(f"{count(zeros, 'row')} without a value or with 0 left out")
    measured = f"{arguments.get('measure') or 'users'} per {arguments.get('every') or 'day'}"
    return Block(columns, rows, facts=(measured,), notes=tuple(notes))


def _is_past(line: _Line, keys: Sequence[str]) -> bool:
    return keys[-1] == "period" and line.labels[-1] == "previous"


def _lines(result: QueryResult, keys: Sequence[str]) -> list[_Line]:
    found: dict[tuple[Any, ...], list[tuple[str, Any]]] = {}
    for row in result:
        found.setdefault(tuple(row[key] for key in keys), []).append((row["time"], row["value"]))
    return [
        _Line(labels, tuple(time for time, _ in points), tuple(value for _, value in points))
        for labels, points in found.items()
    ]


def _labels(keys: Sequence[str], line: _Line, by: str, masking: Masking) -> list[Any]:
    return [
        _label(by, label, masking) if key == "breakdown" else masking.cell("", label)
        for key, label in zip(keys, line.labels, strict=True)
    ]


def _label(by: str, label: Any, masking: Masking) -> Any:
    return _REST if label == OTHER else masking.cell(by, label)


def _as_name(label: Any) -> str:
    return _UNSET if label is None else str(label)


def _short_times(times: Sequence[str]) -> list[str]:
    """Return the times without seconds, if there are none."""
    if all(len(time) == len("2026-11-20 13:00:00") and time.endswith(":00") for time in times):
        return [time[:-3] for time in times]
    return list(times)


def _trend_notes(lines: list[_Line], keys: Sequence[str], arguments: Mapping[str, Any]) -> Iterator[str]:
    numbers = [[value for value in line.values if isinstance(value, (int, float))] for line in lines]
    if not any(any(own) for own in numbers):
        yield _NOTHING
        return
    past = next((line for line in lines if _is_past(line, keys)), None)
    if past and past.times and _TIME.fullmatch(past.times[0]):
        yield f"the previous period began {past.times[0]}; its intervals stand beside those of the current one"
    if len(lines) <= _SAID_SERIES:
        additive = arguments.get("measure") in _ADDITIVE
        said = [_said(line, own, additive) for line, own in zip(lines, numbers, strict=True)]
        yield "; ".join(f"series {number}: {words}" if len(said) > 1 else words for number, words in enumerate(said, 1))
    if not arguments.get("until"):
        yield "the last interval may still be running"


def _said(line: _Line, numbers: list[Any], additive: bool) -> str:
    """Say in numbers how a series went."""
    if not numbers:
        return "no values"
    at = _short_times(line.times)[line.values.index(max(numbers))]
    peak = f"highest {_text(max(numbers))}" + (f" at {at}" if _TIME.fullmatch(at) else "")
    whole = f"total {_text(sum(numbers))}" if additive else f"mean {_text(statistics.fmean(numbers))}"
    return f"{whole}, {peak}, first {_text(numbers[0])}, last {_text(numbers[-1])}"


def _text(number: float) -> str:
    return number_text(float(number))


# Funnels -------------------------------------------------------------------------------------------------------------


def funnel_block(result: QueryResult, arguments: Mapping[str, Any], masking: Masking) -> Block:
    """Return a funnel with a line for each step, or for each value that it is split by."""
    if "breakdown" in result.columns:
        return _split_funnel(result, str(arguments.get("by") or ""), masking)
    columns = ("step", "event", "people", "percent_of_first", "percent_of_previous", "median_seconds")
    rows = [
        [
            row["step"],
            masking.cell("", row["event"]),
            row["people"],
            _percent(row["share_of_first"]),
            _percent(row["share_of_previous"]),
            row["median_seconds"],
        ]
        for row in result
    ]
    return Block(columns, rows, facts=(_ROUNDED,), notes=(_funnel_note([row["people"] for row in result]),))


def _funnel_note(people: list[int]) -> str:
    if not people or not people[0]:
        return _NOTHING
    lost = [before - after for before, after in itertools.pairwise(people)]
    worst = lost.index(max(lost)) + 1
    return (
        f"{_percent_text(people[-1], people[0])} of {count(people[0], 'person', 'people')} reach step {len(people)};"
        f" most are lost from step {worst} to {worst + 1}: {max(lost)} of {people[worst - 1]}"
        f" ({_percent_text(max(lost), people[worst - 1])})"
    )


def _split_funnel(result: QueryResult, by: str, masking: Masking) -> Block:
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in result:
        found.setdefault(row["breakdown"], []).append(row)
    steps = range(1, max((len(own) for own in found.values()), default=0) + 1)
    columns = (
        by,
        *(f"people_{step}" for step in steps),
        "percent_of_first",
        *(f"median_seconds_{step}" for step in steps[1:]),
    )
    rows = [
        [
            _label(by, value, masking),
            *(row["people"] for row in own),
            _percent(own[-1]["share_of_first"]),
            *(row["median_seconds"] for row in own[1:]),
        ]
        for value, own in found.items()
    ]
    if not any(own[0]["people"] for own in found.values()):
        return Block(columns, rows, notes=(_NOTHING,))
    shares = [own[-1]["share_of_first"] for own in found.values() if own[-1]["share_of_first"] is not None]
    note = (
        f"{count(len(found), 'value')}; {_percent_text(min(shares))} to {_percent_text(max(shares))} reach step"
        f" {steps[-1]}; people_N is step N as asked, a median the time from the step before"
    )
    return Block(columns, rows, facts=(_ROUNDED,), notes=(note,))


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 1)


def _percent_text(part: float, whole: float = 1.0) -> str:
    return f"{_text(round(100 * part / whole, 1))} %"


# Retention -----------------------------------------------------------------------------------------------------------


def retention_block(result: QueryResult, arguments: Mapping[str, Any], masking: Masking) -> Block:
    """Return a triangle: a line for each cohort with its size and the percentage of it that is there in each period."""
    cohorts: dict[Any, list[dict[str, Any]]] = {}
    for row in result:
        cohorts.setdefault(row["cohort"], []).append(row)
    periods = max((row["period"] for row in result), default=-1) + 1
    columns = ("cohort", "size", *(f"{arguments.get('every') or 'week'}_{number}" for number in range(periods)))
    rows = []
    for cohort, own in cohorts.items():
        shares = {row["period"]: _percent(row["share"]) for row in own}
        rows.append([cohort, own[0]["size"], *(shares.get(number) for number in range(periods))])
    if not any(own[0]["size"] for own in cohorts.values()):
        return Block(columns, rows, notes=(_NOTHING,))
    notes = ("percent of size; empty: not yet", *_retention_means(cohorts, periods))
    return Block(columns, rows, facts=(_ROUNDED,), notes=notes)


def _retention_means(cohorts: Mapping[Any, list[dict[str, Any]]], periods: int) -> Iterator[str]:
    """Say what share of all cohorts comes back, without periods that may still be running."""
    means = []
    for number in range(1, periods):
        ended = [own[number] for own in cohorts.values() if len(own) > number + 1 and own[number]["size"]]
        people = sum(row["size"] for row in ended)
        if people:
            means.append(f"{number}: {_percent_text(sum(row['people'] for row in ended), people)}")
    if means:
        yield f"all cohorts together by period, without those that may still be running: {', '.join(means)}"
    else:
        yield "the last period of each cohort may still be running"


_FOLDS: dict[str, Callable[[QueryResult, Mapping[str, Any], Masking], Block]] = {
    "posthog_trend": trend_block,
    "posthog_funnel": funnel_block,
    "posthog_retention": retention_block,
}
