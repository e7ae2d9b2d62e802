"""Questions that the typed tools answer: trends, funnels, retention."""

from __future__ import annotations

import datetime as dt

from evals.question import Question
from evals.scoring import Row
from evals.world import World, counted, people_by

__all__ = ["TYPED"]


def _by_month(world: World, found: dict[str, float]) -> list[Row]:
    """Every month from the first day of the data to the current one, those without events with 0."""
    month, last = (dt.date.fromisoformat(world.dates[name]).replace(day=1) for name in ("first", "end"))
    rows: list[Row] = []
    while month <= last:
        rows.append((month.isoformat(), found.get(month.isoformat(), 0)))
        month = (month + dt.timedelta(days=31)).replace(day=1)
    return rows


def _ordered(world: World, names: list[str], days: int) -> list[Row]:
    """A funnel, walked for each person from each of the first events."""
    reached = [0] * len(names)
    for person in world.people(names[0]):
        own = [event for event in world.events if event.person == person and event.name in names]
        best = 0
        for at, start in enumerate(own):
            if start.name != names[0]:
                continue
            step = 1
            for event in own[at + 1 :]:
                in_time = (event.time - start.time).total_seconds() <= days * 86_400
                step += in_time and step < len(names) and event.name == names[step]
            best = max(best, step)
        for step in range(best):
            reached[step] += 1
    return [(at, name, people) for at, (name, people) in enumerate(zip(names, reached, strict=True), 1)]


def _weeks(world: World) -> list[Row]:
    """The last nine weeks, the current one included, which may have no data yet."""
    known = world.truth["weekly_retention"]
    people = {week: row[0] for week, row in zip(known["weeks"], known["returned"], strict=True)}
    today = dt.date.fromisoformat(world.dates["end"])
    current = today - dt.timedelta(days=today.isoweekday() % 7)
    weeks = [(current - dt.timedelta(weeks=back)).isoformat() for back in range(9)]
    return [(week, people.get(week, 0)) for week in weeks]


TYPED: tuple[Question, ...] = (
    Question(
        "trend-signups",
        "How many signed_up events were there in each month from {first} on (give its first day)?",
        "posthog_trend",
        {"events": ["signed_up"], "measure": "events", "every": "month", "since": "{first}"},
        lambda world: _by_month(world, dict(counted(event.month for event in world.of("signed_up")))),
    ),
    Question(
        "trend-uploaders",
        "How many different people uploaded files in each month from {first} on (give its first day)?",
        "posthog_trend",
        {"events": ["file_uploaded"], "measure": "users", "every": "month", "since": "{first}"},
        lambda world: _by_month(world, dict(people_by(world.of("file_uploaded"), lambda event: event.month))),
    ),
    Question(
        "trend-revenue",
        "What was the sum of amount_usd of invoice_paid in each month from {first} on (give its first day)?",
        "posthog_trend",
        {"events": ["invoice_paid"], "measure": "sum", "of": "amount_usd", "every": "month", "since": "{first}"},
        lambda world: _by_month(
            world,
            {
                month: sum(event.p["amount_usd"] for event in world.of("invoice_paid") if event.month == month)
                for month in {event.month for event in world.of("invoice_paid")}
            },
        ),
    ),
    Question(
        "funnel-upgrade",
        "Of the people who signed up from {first} on: how many uploaded a file within 14 days, and how many of those "
        "upgraded their plan after that, still within the 14 days? Number of the step, event, people.",
        "posthog_funnel",
        {
            "steps": [{"event": "signed_up"}, {"event": "file_uploaded"}, {"event": "plan_upgraded"}],
            "within": "14d",
            "since": "{first}",
        },
        lambda world: _ordered(world, ["signed_up", "file_uploaded", "plan_upgraded"], 14),
    ),
    Question(
        "funnel-first-visit",
        "How many people got how far from the page / over the page /signup to signed_up, file_uploaded and "
        "plan_upgraded, from {first} on, within 90 days? Number of the step and people.",
        "posthog_funnel",
        {
            "steps": [
                {"event": "$pageview", "where": {"$pathname": "/"}},
                {"event": "$pageview", "where": {"$pathname": "/signup"}},
                {"event": "signed_up"},
                {"event": "file_uploaded"},
                {"event": "plan_upgraded"},
            ],
            "within": "90d",
            "since": "{first}",
        },
        lambda world: list(enumerate(world.truth["funnel"], 1)),
    ),
    Question(
        "retention-uploads",
        "For each of the last 9 weeks (beginning on Sunday): how many people uploaded a file in it? As a retention of "
        "file_uploaded over all, not first, uploads.",
        "posthog_retention",
        {"start_event": "file_uploaded", "every": "week", "periods": 9, "first_time_only": False},
        _weeks,
    ),
)
