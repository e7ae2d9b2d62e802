"""The pytest plugin in runs of its own, as somebody else's project has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "posthog_driver.pytest_plugin", "-p", "no:cacheprovider", "-W", "error", "-q", "-rA")
THEIR_TESTS = """
    def test_the_first_one_fills_its_project(posthog_client, posthog_project, posthog_local):
        posthog_client.capture_event("paid", "u1", {"amount": 5})
        rows = posthog_client.query("SELECT event, properties.amount AS amount FROM events")
        assert list(rows) == [{"event": "paid", "amount": 5.0}]
        assert posthog_project.project_id == 2
        assert posthog_project.name == "test_the_first_one_fills_its_project"
        assert posthog_project.personal_api_key != posthog_local.personal_api_key

    def test_the_second_one_finds_its_own_empty(posthog_client, posthog_project):
        assert list(posthog_client.query("SELECT event FROM events")) == []
        assert posthog_project.project_id == 3

    def test_only_the_first_project_is_left(posthog_local):
        import json, urllib.request
        asked = urllib.request.Request(
            posthog_local.url + "/api/projects/", headers={"Authorization": "Bearer " + posthog_local.personal_api_key}
        )
        with urllib.request.urlopen(asked) as answer:
            assert [project["id"] for project in json.load(answer)["results"]] == [1]

    def test_its_events_are_counted(posthog_local):
        with posthog_local.client() as client:
            assert list(client.query("SELECT count() AS n FROM events")) == [{"n": EVENTS}]
"""


def test_each_test_has_a_project_of_its_own_and_all_share_one_server(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THEIR_TESTS.replace("EVENTS", "0"))

    pytester.runpytest_subprocess(*OPTIONS, timeout=120).assert_outcomes(passed=4)


@pytest.mark.parametrize("way", ["option", "setting"])
def test_the_first_project_has_as_many_demo_events_as_asked(pytester: pytest.Pytester, way: str) -> None:
    pytester.makepyfile(THEIR_TESTS.replace("EVENTS", "40"))
    pytester.makeini(f"[pytest]\nposthog_events = {7 if way == 'option' else 40}\n")
    more = ("--posthog-events", "40") if way == "option" else ()

    pytester.runpytest_subprocess(*OPTIONS, *more, "-k", "counted", timeout=120).assert_outcomes(passed=1)


def test_a_number_of_events_that_is_none_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THEIR_TESTS)
    pytester.makeini("[pytest]\nposthog_events = many\n")
    done = pytester.runpytest_subprocess(*OPTIONS, "-k", "counted", timeout=120)

    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*posthog_events must be a whole number, not 'many'*"])


def test_the_fixtures_and_the_option_are_explained(pytester: pytest.Pytester) -> None:
    fixtures = pytester.runpytest_subprocess(*OPTIONS, "--fixtures", timeout=120)
    usage = pytester.runpytest_subprocess(*OPTIONS, "--help", timeout=120)

    fixtures.stdout.fnmatch_lines(["posthog_local *", "posthog_project *", "posthog_client *"])
    usage.stdout.fnmatch_lines(["*--posthog-events=N*"])


def test_loading_it_loads_nothing_else() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import posthog_driver.pytest_plugin\n"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('posthog_driver.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert done.stdout.splitlines() == [
        "['posthog_driver']",
        "['posthog_driver._version', 'posthog_driver.pytest_plugin']",
    ]


def test_the_package_announces_it_to_pytest_under_its_own_name() -> None:
    text = (Path(__file__).parents[2] / "setup.py").read_text(encoding="utf-8")

    assert '"pytest11": ["posthog_driver.pytest_plugin = posthog_driver.pytest_plugin"]' in text
