"""``posthog-driver demo``: the main job in one go, on an embedded PostHog.

Real questions, through the real client with all its layers, over real HTTP.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, NamedTuple

from posthog_driver._output import to_json, write_table
from posthog_driver.client import PostHogClient
from posthog_driver.config import PostHogConfig
from posthog_driver.exceptions import MissingDependencyError

__all__ = ["run"]


class _Question(NamedTuple):
    """A question of the demo.

    Attributes:
        title: The question.
        hogql: The same for PostHog.
        values: What its placeholders stand for.
        bar: The column of numbers that is drawn too.
    """

    title: str
    hogql: str
    values: dict[str, Any] | None = None
    bar: str | None = None


_QUESTIONS = (
    _Question(
        "What happens most?",
        """\
SELECT event, count() AS events, uniq(person_id) AS people
FROM events GROUP BY event ORDER BY events DESC LIMIT 5""",
    ),
    _Question(
        "How many people came on each day of the last week?",
        """\
SELECT toDate(timestamp) AS day, uniq(person_id) AS people
FROM events WHERE timestamp >= today() - INTERVAL 7 DAY GROUP BY day ORDER BY day""",
        bar="people",
    ),
    _Question(
        "How far do people get within two weeks?",
        """\
SELECT countIf(steps >= 1) AS visited, countIf(steps >= 2) AS signed_up,
       countIf(steps >= 3) AS uploaded, countIf(steps >= 4) AS upgraded
FROM (SELECT person_id, windowFunnel(1209600)(toDateTime(timestamp), event = '$pageview', event = 'signed_up',
             event = 'file_uploaded', event = 'plan_upgraded') AS steps
      FROM events GROUP BY person_id)""",
    ),
    _Question(
        "Which pages are read most, and how long do they load?",
        """\
SELECT properties.$pathname AS page, count() AS views, round(avg(toFloat(properties.load_ms))) AS load_ms
FROM events WHERE event = '$pageview' GROUP BY page ORDER BY views DESC LIMIT 4""",
    ),
    _Question(
        "Who uploads files? (the plan is a property of the person)",
        """\
SELECT person.properties.plan AS plan, uniq(person_id) AS people, count() AS files
FROM events WHERE event = 'file_uploaded' GROUP BY plan ORDER BY files DESC""",
    ),
    _Question(
        "How do people sign up on the move? (values are bound, never part of the text)",
        """\
SELECT properties.signup_method AS method, count() AS sign_ups
FROM events WHERE event = {event} AND properties.$device_type IN {devices}
GROUP BY method ORDER BY sign_ups DESC""",
        {"event": "signed_up", "devices": ["Mobile", "Tablet"]},
        bar="sign_ups",
    ),
)
_BAR = 40
_NEXT = """\
Go on by yourself: start it in one terminal and paste the rest into another (these keys open nothing else).

  {command} local --port 8010 --fixed-keys

  export POSTHOG_API_URL=http://127.0.0.1:8010 POSTHOG_PROJECT_ID={project_id}
  export POSTHOG_PERSONAL_API_KEY={key} POSTHOG_PROJECT_API_KEY={token}
  {command} query "SELECT event, timestamp FROM events LIMIT 5"

For a project of your own set the same four; POSTHOG_API_URL is https://us.posthog.com or https://eu.posthog.com.
"""


def run(events: int, seed: int) -> None:
    """Start an embedded PostHog, ask it, and print what was asked and what came back.

    Args:
        events: Number of demo events.
        seed: Another seed gives other demo data.

    Raises:
        MissingDependencyError: The extra ``local`` is not installed.
        PostHogError: It could not start, or a question failed.
    """
    from posthog_driver.local import LocalPostHog
    from posthog_driver.local.__main__ import FIXED_PERSONAL_API_KEY, FIXED_PROJECT_API_KEY

    print(f"Starting an embedded PostHog with {events:,} demo events ...", flush=True)
    started = time.perf_counter()
    try:
        local = LocalPostHog(events=events, seed=seed)
    except MissingDependencyError as error:
        raise MissingDependencyError(f'{error} In a clone of the repository: pip install -e ".[local]"') from error
    with local:
        print(f"It answers on {local.url} after {time.perf_counter() - started:.1f} s.\n")
        config = PostHogConfig(local.personal_api_key, local.project_id, local.project_api_key, local.url)
        with PostHogClient(config) as client:
            _show_schema(client)
            for question in _QUESTIONS:
                _ask(client, question)
        # Inside an environment that is not activated the bare name would not be found.
        command = (
            "posthog-driver"
            if shutil.which("posthog-driver")
            else f"{os.path.relpath(sys.executable)} -m posthog_driver"
        )
        known = {
            "command": command,
            "project_id": local.project_id,
            "key": FIXED_PERSONAL_API_KEY,
            "token": FIXED_PROJECT_API_KEY,
        }
        print(_NEXT.format(**known), end="")


def _show_schema(client: PostHogClient) -> None:
    names = client.list_objects()
    print(f"What can be asked about?\n{len(names)} objects: {', '.join(names[:8])}, ...\n")
    fields = client.get_fields("events")
    some = [name for name in ("event", "timestamp", "distinct_id", "properties.$browser") if name in fields]
    print(f"What is an event made of?\n{len(fields)} fields, such as:")
    write_table([{"field": name, **fields[name]} for name in some], ["field", "type", "description"])
    print()


def _ask(client: PostHogClient, question: _Question) -> None:
    rows = client.query(question.hogql, question.values, name="posthog-driver demo")
    print(f"{question.title} [{rows.info.elapsed * 1000:.0f} ms]")
    print("  " + question.hogql.replace("\n", "\n  "))
    if question.values:
        print(f"  with {to_json(question.values)}")
    columns = rows.columns
    if question.bar:
        most = max((row[question.bar] for row in rows), default=0)
        for row in rows:
            row[""] = "█" * round(_BAR * row[question.bar] / most)
        columns.append("")
    write_table(rows, columns)
    print(flush=True)
