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
from functools import partial
from pathlib import Path
from typing import Any

from . import demo_catalog
from .demo_cache import MIN_EVENTS, DemoCache
from .demo_sql import WORK, Plan, Statements
from .demo_truth import Truth
from .engine import Engine
from .files import reading, write_json
from .schema import DATABASE, Catalog

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

_VERSION = 2
_FILE = "demo.json"
_EVENTS_PER_PERSON = 15
_SLICE_PERSONS = 10_000
"""About 200,000 events."""


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
        ``sessions``, ``event_counts`` (by name), ``days`` (the ``first`` one, and the ``event_counts`` of each day by
        name), ``funnel`` (persons who reached each step of `FUNNEL`), ``experiment`` (``exposed`` and ``signed_up``
        for each of the ``variants``, and the ``winner``), ``retention`` (of the ``signed_up`` persons with 14 days to
        watch, how many ``returned`` 7 to 13 days after the day of their first visit), ``weekly_retention`` (its
        ``event``; the ``weeks`` by their Sundays; for each week how many persons did it in that week, and how many of
        these did it again one, two, ... weeks later: ``returned``) and ``cohorts`` (members by name).

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
    with reading(path):
        if stored is not None and stored["complete"]:
            return _demo(Plan.from_json(stored["plan"]), dict(stored["truth"]))
    if stored is not None:
        _empty(engine)
    plan = Plan(events, seed, _midnight(end), days)
    write_json(Path(path), {"version": _VERSION, "complete": False, "plan": plan.to_json()})
    truth = _generate(engine, plan) if events else {}
    write_json(Path(path), {"version": _VERSION, "complete": True, "plan": plan.to_json(), "truth": truth})
    return _demo(plan, truth)


def open_storage(
    data: str | os.PathLike[str], *, events: int, seed: int, end: datetime | None = None
) -> tuple[Engine, Demo]:
    """Open a data directory and fill it, with kept data of an earlier start where there is some; see `load`."""
    facts = {"version": _VERSION, "events": events, "seed": seed, "end": _midnight(end).isoformat()}
    cache = DemoCache(facts) if events >= MIN_EVENTS else None
    is_new = not os.path.isdir(data) or not os.listdir(data)
    if cache is not None and is_new:
        is_new = not cache.bring(data)
    engine = Engine(data)
    demo = load(engine, events=events, seed=seed, end=end)
    if cache is not None and is_new:
        # An engine must not write to what is being copied.
        engine.close()
        cache.keep(data)
        engine = Engine(data)
    return engine, demo


def _midnight(end: datetime | None) -> datetime:
    moment = datetime.now(timezone.utc) if end is None else end
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc)
    return datetime.combine(moment.date(), time(), timezone.utc)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file, reading(path):
            stored: dict[str, Any] = json.load(file)
            version = stored["version"]
    except FileNotFoundError:
        return None
    if version != _VERSION:
        raise ValueError(f"{path} was written by another version of this package; use another data directory")
    return stored


def _empty(engine: Engine) -> None:
    for table in ("events", "persons", "person_distinct_ids", "groups"):
        engine.execute(f"TRUNCATE TABLE {DATABASE}.{table}")


def _demo(plan: Plan, truth: Mapping[str, Any]) -> Demo:
    known = demo_catalog.entities(plan.start, plan.end, plan.seed, truth) if plan.events else {}
    return Demo(plan.seed, plan.events, plan.end, plan.days, truth, **known)


def _generate(engine: Engine, plan: Plan) -> dict[str, Any]:
    """Generate slice by slice of the persons, so that the memory needed does not grow with the data."""
    statements, truth = Statements(plan), Truth(plan)
    _drop_work(engine)
    engine.execute(f"CREATE DATABASE {WORK}")
    engine.execute(statements.companies())
    first, left = 0, plan.events
    while left:
        last = first + min(_SLICE_PERSONS, left // _EVENTS_PER_PERSON + 100)
        _fill(engine, statements.drafts(first, last))
        _fill(engine, statements.visits())
        count, events = _fitting(engine, left)
        rest = left - events if count < last - first else 0
        _fill(engine, statements.people(first + count, rest))
        _fill(engine, statements.sessions(first + count, rest))
        _fill(engine, statements.events())
        for statement in statements.other_tables():
            _fill(engine, statement)
        truth.add(partial(_rows, engine))
        for table in ("drafts", "visits", "people", "sessions"):
            engine.execute(f"DROP TABLE {WORK}.{table} SYNC")
        first, left = last, left - events - rest
    _fill(engine, statements.groups())
    _drop_work(engine)
    return truth.result()


def _drop_work(engine: Engine) -> None:
    # Otherwise the engine would keep the tables, which are in memory, for some minutes.
    engine.execute(f"DROP DATABASE IF EXISTS {WORK} SYNC")


def _fill(engine: Engine, statement: str) -> None:
    """Run a statement uncompiled: compiling such long ones takes longer than running them."""
    engine.execute(f"{statement}\nSETTINGS compile_expressions = 0")


def _fitting(engine: Engine, left: int) -> tuple[int, int]:
    """Count the drafted persons who fit whole into what is left, and their events."""
    ((count, events),) = _rows(
        engine,
        f"""SELECT countIf(total <= {left}), maxIf(total, total <= {left}) FROM (
            SELECT sum(sum(length(codes))) OVER (ORDER BY i) AS total
            FROM {WORK}.drafts AS d LEFT JOIN {WORK}.visits AS v ON d.i = v.i GROUP BY i)""",
    )
    return count, events


def _rows(engine: Engine, sql: str) -> list[list[Any]]:
    return engine.run(sql, query_id="demo", max_execution_time=3600, max_memory_bytes=0).rows
