"""The driver contract in one file: what exists, what it is made of, and answers.

::

    pip install posthog-driver
    export POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/basic_usage.py
"""

from __future__ import annotations

from posthog_driver import PostHogClient, QueryError

TOP = """
    SELECT event, count() AS n, uniq(person_id) AS people
    FROM events
    WHERE timestamp >= now() - INTERVAL {days} DAY
    GROUP BY event ORDER BY n DESC LIMIT 5
"""


def main() -> None:
    """Look around, ask, and show what a refused query says."""
    with PostHogClient() as client:
        print("objects:", ", ".join(client.list_objects()[:8]), "...")
        fields = client.get_fields("events")
        print("fields of events:", ", ".join(list(fields)[:6]), "...")

        rows = client.query(TOP, {"days": 30})
        for row in rows:
            print(f"{row['event']:<20} {row['n']:>7} times, {row['people']:>5} people")
        print("cut by PostHog:", rows.truncated, "- from its cache:", rows.is_cached)

        try:
            client.query("SELECT evnt FROM events LIMIT 1")
        except QueryError as error:
            print("refused:", error.detail, "- at", error.position, "-", error.fix or error.hint or "")


if __name__ == "__main__":
    main()
