"""Test your own code against a PostHog of its own: no account, no network, no mock.

::

    pip install "posthog-driver[local]" pytest
    pytest examples/testing_with_local_posthog.py

The fixtures come with the package: ``posthog_client`` talks to a project that is fresh for each test, ``posthog_local``
is the server behind all of them.
"""

from __future__ import annotations

import pytest

from posthog_driver import PostHogClient, RateLimitError
from posthog_driver.local import LocalPostHog


def active_users(client: PostHogClient, plan: str) -> int:
    """The code under test: how many people of a plan did anything."""
    rows = client.query(
        "SELECT uniq(person_id) AS people FROM events WHERE person.properties.plan = {plan}", {"plan": plan}
    )
    return int(rows[0]["people"])


def test_only_people_of_the_plan_are_counted(posthog_client: PostHogClient) -> None:
    posthog_client.capture_batch(
        [
            {"event": "opened", "distinct_id": "ada", "properties": {"$set": {"plan": "team"}}},
            {"event": "opened", "distinct_id": "ada"},
            {"event": "opened", "distinct_id": "bob", "properties": {"$set": {"plan": "free"}}},
        ]
    )

    assert active_users(posthog_client, "team") == 1  # what was captured can be asked for at once


def test_nothing_of_another_test_is_there(posthog_client: PostHogClient) -> None:
    assert active_users(posthog_client, "team") == 0


def test_what_happens_when_posthog_says_slow_down(posthog_local: LocalPostHog, posthog_client: PostHogClient) -> None:
    posthog_local.inject({"name": "throttled", "path": "/query/", "times": None})
    try:
        with pytest.raises(RateLimitError):
            posthog_client.query("SELECT 1", total_timeout=0.5)
    finally:
        posthog_local.clear_faults()
