"""Demo data: a file-sharing product called Parcelbay, generated inside the engine.

Persons lead to sessions, sessions to events, in three set-oriented statements. Every choice is
``cityHash64(seed, person, session, key)``: there is no state and no random generator, and only exact
arithmetic (no ``exp``, no ``pow``), so the same ``(seed, end, events, days)`` gives the same rows on every
machine.

The model. A *visitor* arrives on some day of the period (more of them towards its end) and gets some way
along `FUNNEL`; all steps but the last happen in the first session, the upgrade 1 to 10 days later. A tenth of
the persons are *customers* from before the period. Whoever has an account comes back with a probability that
depends on the person, the weekday (people from companies mostly work on workdays) and the time since the
first visit. The sign-up form is an experiment: half of the visitors get another one, with which more of them
sign up.

Flags have the value that PostHog's own hash gives for a person's first ``distinct_id``.

The number of events is exact: whole persons are taken as long as they fit, and one more visitor, who only
looks at pages, has what is left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from . import demo_catalog
from .demo_sql import ACTIONS, WORK, Plan, Statements, array
from .schema import DATABASE, Catalog

if TYPE_CHECKING:
    from .engine import Engine

DEFAULT_DAYS = 90
MAX_EVENTS = 100_000_000

FUNNEL: tuple[Mapping[str, str], ...] = (
    {"event": "$pageview", "$pathname": "/"},
    {"event": "$pageview", "$pathname": "/signup"},
    {"event": "signed_up"},
    {"event": "file_uploaded"},
    {"event": "plan_upgraded"},
)
"""The five steps from a first visit to a paying customer."""

_VERSION = 1
_FILE = "demo.json"
_SLICE_EVENTS = 200_000
_EVENTS_PER_PERSON = 15


@dataclass(frozen=True)
class Demo:
    """A demo data set: what it was made from, and what a project knows beside its events.

    The entities are plain dicts in the shapes of PostHog's REST answers.

    Attributes:
        seed: What all choices depend on.
        events: Number of events.
        end: End of the period, a midnight in UTC; no event is later.
        days: Length of the period.
        truth: What the generator knows of its data: see `load`.
        catalog: What the translator needs to know.
        event_definitions: As ``/event_definitions/`` lists them.
        property_definitions: As ``/property_definitions/`` lists them, and ``type`` and ``group_type_index``.
        cohorts: As ``/cohorts/`` lists them.
        feature_flags: As ``/feature_flags/`` lists them.
        experiments: As ``/experiments/`` lists them.
        insights: As ``/insights/`` lists them.
        dashboards: As ``/dashboards/`` lists them.
        annotations: As ``/annotations/`` lists them.
        group_types: As ``/groups_types/`` lists them.
    """

    seed: int
    events: int
    end: datetime
    days: int
    truth: Mapping[str, Any]
    catalog: Catalog = field(default_factory=Catalog)
    event_definitions: tuple[dict[str, Any], ...] = ()
    property_definitions: tuple[dict[str, Any], ...] = ()
    cohorts: tuple[dict[str, Any], ...] = ()
    feature_flags: tuple[dict[str, Any], ...] = ()
    experiments: tuple[dict[str, Any], ...] = ()
    insights: tuple[dict[str, Any], ...] = ()
    dashboards: tuple[dict[str, Any], ...] = ()
    annotations: tuple[dict[str, Any], ...] = ()
    group_types: tuple[dict[str, Any], ...] = ()


def load(engine: Engine, *, events: int, seed: int, end: datetime | None = None, days: int = DEFAULT_DAYS) -> Demo:
    """Fill the storage with demo data, or find what it already holds.

    A storage that was filled before keeps its data, whatever the arguments say: compare them with the
    attributes of the answer. A filling that was interrupted is begun again.

    Args:
        engine: Where the rows go.
        events: Number of events, exactly. 0 gives an empty project without definitions and entities.
        seed: Another seed gives other persons and events.
        end: End of the period; taken back to the midnight (UTC) at or before it. None means today's midnight.
        days: Length of the period.

    Returns:
        The data set. Its ``truth`` is empty without events; else it holds ``events``, ``persons``,
        ``sessions``, ``event_counts`` (by name), ``funnel`` (persons who reached each step of `FUNNEL`),
        ``experiment`` (``exposed`` and ``signed_up`` for each of the ``variants``, and the ``winner``),
        ``retention`` (of the ``signed_up`` persons with 14 days to watch, how many ``returned`` 7 to 13 days
        after the day of their first visit) and ``cohorts`` (members by name).

    Raises:
        ValueError: A number out of range, or a storage filled by another version of this package.
        EngineError: The engine failed.
    """
    if not 0 <= events <= MAX_EVENTS:
        raise ValueError(f"events must be between 0 and {MAX_EVENTS:,}, not {events}")
    if not 1 <= days <= 3650:
        raise ValueError(f"days must be between 1 and 3,650, not {days}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be between 0 and 2**64 - 1, not {seed}")
    path = os.path.join(engine.path, _FILE)
    stored = _read(path)
    if stored is not None and stored["complete"]:
        return _demo(Plan.from_json(stored["plan"]), stored["truth"])
    if stored is not None:
        _empty(engine)
    plan = Plan(events, seed, _midnight(end), days)
    _write(path, {"version": _VERSION, "complete": False, "plan": plan.to_json()})
    truth = _generate(engine, plan) if events else {}
    _write(path, {"version": _VERSION, "complete": True, "plan": plan.to_json(), "truth": truth})
    return _demo(plan, truth)


def _midnight(end: datetime | None) -> datetime:
    moment = datetime.now(timezone.utc) if end is None else end
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc)
    return datetime.combine(moment.date(), time(), timezone.utc)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            stored: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    if stored["version"] != _VERSION:
        raise ValueError(f"{path} was written by another version of this package; use another data directory")
    return stored


def _write(path: str, content: Mapping[str, Any]) -> None:
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(f"{path}.new", path)


def _empty(engine: Engine) -> None:
    for table in ("events", "persons", "person_distinct_ids", "groups"):
        engine.execute(f"TRUNCATE TABLE {DATABASE}.{table}")


def _demo(plan: Plan, truth: Mapping[str, Any]) -> Demo:
    known = demo_catalog.entities(plan.start, plan.end, plan.seed, truth) if plan.events else {}
    return Demo(plan.seed, plan.events, plan.end, plan.days, truth, **known)


def _generate(engine: Engine, plan: Plan) -> dict[str, Any]:
    """Run the statements, and read from the working tables what is true of the data."""
    statements = Statements(plan)
    engine.execute(f"DROP DATABASE IF EXISTS {WORK}")
    engine.execute(f"CREATE DATABASE {WORK}")
    count, rest = _draft(engine, statements)
    _fill(engine, statements.people(count, rest))
    _fill(engine, statements.sessions(count, rest))
    for first, last in _slices(count + (rest > 0), plan.events):
        _fill(engine, statements.events(first, last))
    for statement in statements.other_tables():
        _fill(engine, statement)
    truth = _truth(engine, plan)
    engine.execute(f"DROP DATABASE {WORK}")
    return truth


def _fill(engine: Engine, statement: str) -> None:
    """Run a statement uncompiled: compiling such long ones takes longer than running them."""
    engine.execute(f"{statement}\nSETTINGS compile_expressions = 0")


def _draft(engine: Engine, statements: Statements) -> tuple[int, int]:
    """Draft persons until their events are enough.

    Returns:
        How many persons fit whole, and how many events are left.
    """
    wanted = statements.plan.events
    count = wanted // _EVENTS_PER_PERSON + 100
    while True:
        _fill(engine, statements.drafts(count))
        _fill(engine, statements.visits())
        ((taken, events, drafted),) = _rows(
            engine,
            f"""SELECT countIf(total <= {wanted}), maxIf(total, total <= {wanted}), max(total) FROM (
                SELECT sum(sum(length(codes))) OVER (ORDER BY i) AS total
                FROM {WORK}.drafts AS d LEFT JOIN {WORK}.visits AS v ON d.i = v.i GROUP BY i)""",
        )
        if drafted > wanted:
            return taken, wanted - events
        engine.execute(f"DROP TABLE {WORK}.drafts")
        engine.execute(f"DROP TABLE {WORK}.visits")
        count *= 2


def _slices(persons: int, events: int) -> list[tuple[int, int]]:
    """Ranges of persons with about `_SLICE_EVENTS` events each, which keeps the memory needed small."""
    parts = -(-events // _SLICE_EVENTS)
    bounds = [persons * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def _rows(engine: Engine, sql: str) -> list[list[Any]]:
    return engine.run(sql, query_id="demo", max_execution_time=3600, max_memory_bytes=0).rows


def _truth(engine: Engine, plan: Plan) -> dict[str, Any]:
    people, sessions = f"{WORK}.people", f"{WORK}.sessions"
    events = _rows(
        engine,
        f"""SELECT {array([action.event for action in ACTIONS])}[code] AS event, count()
            FROM {sessions} ARRAY JOIN codes AS code GROUP BY event ORDER BY event""",
    )
    ((session_count, persons),) = _rows(engine, f"SELECT count(), uniqExact(i) FROM {sessions}")
    steps = ", ".join(f"countIf(depth >= {step})" for step in range(1, len(FUNNEL) + 1))
    (funnel,) = _rows(engine, f"SELECT {steps} FROM {people} WHERE NOT old")
    variants = _rows(
        engine,
        f"""SELECT variant, countIf(depth >= 2), countIf(depth >= 3) FROM {people} WHERE NOT old
            GROUP BY variant ORDER BY variant""",
    )
    ((signed_up, returned),) = _rows(
        engine,
        f"""SELECT count(), countIf(i IN (
                SELECT s.i FROM {sessions} AS s INNER JOIN {people} AS p ON s.i = p.i
                WHERE s.day BETWEEN p.first_day + 7 AND p.first_day + 13))
            FROM {people} WHERE NOT old AND depth >= 3 AND first_day + 14 <= {plan.days}""",
    )
    ((paying, in_companies),) = _rows(
        engine,
        f"""SELECT countIf(depth >= 5), countIf(depth >= 3 AND company > 0) FROM {people}
            WHERE i IN (SELECT i FROM {sessions})""",
    )
    by_variant = {name: {"exposed": exposed, "signed_up": joined} for name, exposed, joined in variants}
    return {
        "events": plan.events,
        "persons": persons,
        "sessions": session_count,
        "event_counts": dict(events),
        "funnel": funnel,
        "experiment": {"variants": by_variant, "winner": _winner(by_variant)},
        "retention": {"signed_up": signed_up, "returned": returned},
        "cohorts": {"Paying customers": paying, "People in companies": in_companies},
    }


def _winner(variants: Mapping[str, Mapping[str, int]]) -> str | None:
    """The variant with which the larger share signed up; None when nobody saw the form."""
    rates = {name: seen["signed_up"] / seen["exposed"] for name, seen in variants.items() if seen["exposed"]}
    return max(rates, key=lambda name: rates[name], default=None)
