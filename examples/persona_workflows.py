"""Three jobs of three people: did a feature help, how do users travel, who are the best customers.

::

    pip install posthog-driver
    export POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/persona_workflows.py impact --flag signup-form --goal signed_up
    python examples/persona_workflows.py journey --steps '$pageview' signed_up file_uploaded
    python examples/persona_workflows.py power --event file_uploaded

Without names they are those of the demo data of the embedded PostHog.
"""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

from posthog_driver import PostHogClient

_IMPACT = """
    SELECT variant, count() AS people, countIf(reached) AS reached FROM (
        SELECT person_id, argMin(properties.$feature_flag_response, timestamp) AS variant,
            minIf(timestamp, event = '$feature_flag_called') AS seen,
            maxIf(timestamp, event = {goal}) >= seen AS reached
        FROM events
        WHERE timestamp >= now() - INTERVAL {days} DAY
            AND (event = {goal} OR (event = '$feature_flag_called' AND properties.$feature_flag = {flag}))
        GROUP BY person_id
        HAVING countIf(event = '$feature_flag_called') > 0
    )
    GROUP BY variant ORDER BY variant LIMIT 20
"""
_POWER = """
    SELECT person_id, any(person.properties.plan) AS plan, count() AS times, uniq(toDate(timestamp)) AS days
    FROM events
    WHERE event = {event} AND timestamp >= now() - INTERVAL {days} DAY
    GROUP BY person_id
    HAVING days >= {least}
    ORDER BY times DESC LIMIT {most}
"""


class Variant(NamedTuple):
    """One variant of a flag: who saw it, and who then did what it is for."""

    name: str
    people: int
    reached: int

    @property
    def rate(self) -> float:
        """Share of those who saw it."""
        return self.reached / self.people if self.people else math.nan


def feature_impact(client: PostHogClient, flag: str, goal: str, days: int = 90) -> list[Variant]:
    """For a product manager: of the people who saw each variant of a flag, how many did ``goal`` afterwards."""
    rows = client.query(_IMPACT, {"flag": flag, "goal": goal, "days": days})
    return [Variant(str(row["variant"]), row["people"], row["reached"]) for row in rows]


def user_journey(client: PostHogClient, steps: list[str], within: str = "14d") -> list[dict[str, Any]]:
    """For a designer: how far people get through steps, and where most of them are lost."""
    return list(client.funnel(steps, within=within, since="-90d"))


def power_users(client: PostHogClient, event: str, least: int = 3, most: int = 10) -> list[dict[str, Any]]:
    """For sales: who did ``event`` on at least so many days of the last thirty, most often first."""
    return list(client.query(_POWER, {"event": event, "days": 30, "least": least, "most": most}))


def z_score(one: Variant, other: Variant) -> float:
    """How many standard errors apart two rates are (two-proportion z-test); beyond 1.96 chance is below 5 %."""
    people = one.people + other.people
    if not one.people or not other.people:
        return math.nan
    pooled = (one.reached + other.reached) / people
    error = math.sqrt(pooled * (1 - pooled) * (1 / one.people + 1 / other.people))
    return (one.rate - other.rate) / error if error else math.nan


def main() -> None:
    """Do the job that the command line names."""
    parser = argparse.ArgumentParser(description="Three jobs of three people.")
    jobs = parser.add_subparsers(dest="job", required=True)
    impact = jobs.add_parser("impact")
    impact.add_argument("--flag", default="signup-form")
    impact.add_argument("--goal", default="signed_up")
    journey = jobs.add_parser("journey")
    journey.add_argument("--steps", nargs="+", default=["$pageview", "signed_up", "file_uploaded"])
    power = jobs.add_parser("power")
    power.add_argument("--event", default="file_uploaded")
    options = parser.parse_args()
    with PostHogClient() as client:
        if options.job == "impact":
            variants = feature_impact(client, options.flag, options.goal)
            for variant in variants:
                print(f"{variant.name}: {variant.reached} of {variant.people} ({variant.rate:.1%})")
            if len(variants) == 2:
                print(f"z = {z_score(variants[1], variants[0]):.2f}")
        elif options.job == "journey":
            for row in user_journey(client, options.steps):
                share = row["share_of_first"] or 0
                print(f"{row['step']}. {row['event']}: {row['people']} people, {share:.1%} of the first step")
        else:
            for row in power_users(client, options.event):
                print(f"{row['person_id']}: {row['times']} times on {row['days']} days, plan {row['plan']}")


if __name__ == "__main__":
    main()
