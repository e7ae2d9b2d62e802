"""The examples without a model, run as their first lines say, against the embedded PostHog and its known truth."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.persona_workflows import Variant, feature_impact, power_users, user_journey, z_score
from posthog_driver import PostHogClient
from posthog_driver.local import LocalPostHog

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def posthog() -> Iterator[LocalPostHog]:
    with LocalPostHog() as posthog:
        yield posthog


@pytest.fixture
def client(posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with posthog.client() as client:
        yield client


def run(posthog: LocalPostHog, script: str, *arguments: str) -> str:
    settings = {
        "PATH": os.environ["PATH"],
        "POSTHOG_API_URL": posthog.url,
        "POSTHOG_PROJECT_ID": "1",
        "POSTHOG_PERSONAL_API_KEY": posthog.personal_api_key,
    }
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, env=settings, check=True, capture_output=True, text=True, timeout=120).stdout


def test_the_first_example_shows_objects_fields_rows_and_a_refusal(posthog: LocalPostHog) -> None:
    printed = run(posthog, "basic_usage.py")

    assert "objects: events, persons" in printed
    assert re.search(r"^\$pageview +\d+ times, +\d+ people$", printed, re.MULTILINE)
    assert "cut by PostHog: False" in printed
    assert "refused: Unable to resolve field: evnt" in printed


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("impact", r"control: \d+ of \d+ \(\d+\.\d%\)\ntest: \d+ of \d+ \(\d+\.\d%\)\nz = -?\d+\.\d\d\n"),
        (
            "journey",
            r"1\. \$pageview: \d+ people, 100\.0% of the first step\n2\. signed_up: .+\n3\. file_uploaded: .+\n",
        ),
        ("power", r"(?:[0-9a-f-]{36}: \d+ times on \d+ days, plan \w+\n)+"),
    ],
)
def test_each_job_of_a_person_prints_its_numbers(posthog: LocalPostHog, job: str, expected: str) -> None:
    assert re.fullmatch(expected, run(posthog, "persona_workflows.py", job))


def test_the_impact_of_the_experiment_is_the_known_one(posthog: LocalPostHog, client: PostHogClient) -> None:
    found = {
        variant.name: (variant.people, variant.reached)
        for variant in feature_impact(client, "signup-form", "signed_up")
    }
    known = posthog.truth["experiment"]["variants"]

    assert found == {name: (facts["exposed"], facts["signed_up"]) for name, facts in known.items()}


def test_a_journey_loses_people_and_never_wins_some(client: PostHogClient) -> None:
    people = [row["people"] for row in user_journey(client, ["$pageview", "signed_up", "file_uploaded"])]

    assert people == sorted(people, reverse=True)
    assert people[-1] > 0


def test_power_users_come_most_often_first_and_on_enough_days(client: PostHogClient) -> None:
    rows = power_users(client, "file_uploaded", least=2, most=5)

    assert [row["times"] for row in rows] == sorted((row["times"] for row in rows), reverse=True)
    assert all(row["days"] >= 2 for row in rows)


def test_the_test_of_two_rates_is_that_of_the_textbook() -> None:
    # 120 of 1,000 against 100 of 1,000: pooled 0.11, standard error 0.013993, difference 0.02.
    assert z_score(Variant("a", 1000, 120), Variant("b", 1000, 100)) == pytest.approx(1.4293, abs=1e-4)
    assert math.isnan(z_score(Variant("a", 0, 0), Variant("b", 10, 1)))


def test_the_tests_of_the_testing_example_pass() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(ROOT)]
    ran = subprocess.run(
        [*command, str(ROOT / "examples" / "testing_with_local_posthog.py")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
