"""The doctor at a real server: keys, scopes, projects, tokens, clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from posthog_driver import PostHogConfig
from posthog_driver._doctor import Finding, diagnose
from posthog_driver.local import LocalPostHog


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=500) as local:
        yield local


def examined(local: LocalPostHog, ahead: float = 0.0, **settings: Any) -> dict[str, Finding]:
    given = {"api_key": local.personal_api_key, "project_id": 1, "api_url": local.url, **settings}
    config = PostHogConfig(**given)
    findings = list(diagnose(lambda: config, environment={}, wall=lambda: time.time() + ahead))
    assert not any(str(given["api_key"]) in str(finding) for finding in findings)
    return {finding.check: finding for finding in findings}


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.state for check, finding in findings.items() if finding.state != "ok"}


def key_with(local: LocalPostHog, *scopes: str) -> str:
    body = {"label": "Narrow", "scopes": list(scopes), "scoped_teams": [1]}
    return str(local._ask_server("POST", "/api/personal_api_keys/", body)["value"])


def test_a_good_setup_is_told_to_be_one(local: LocalPostHog) -> None:
    scopes = ("query:read", "project:read", "event_definition:read", "property_definition:read")
    findings = examined(local, api_key=key_with(local, *scopes), project_api_key=local.project_api_key)

    assert states(findings) == {}
    assert list(findings) == [
        "versions", "settings", "key", "scopes", "project", "token", "query", "clock", "discovery",
    ]  # fmt: skip
    assert findings["discovery"].found.endswith("from the live schema")


def test_a_key_that_may_do_everything_is_more_than_is_needed(local: LocalPostHog) -> None:
    findings = examined(local)

    assert states(findings) == {"scopes": "warning"}
    assert "none is set" in findings["token"].found


def test_a_key_that_is_not_known_ends_it(local: LocalPostHog) -> None:
    findings = examined(local, api_key="phx_wrong_key")

    assert states(findings) == {"key": "problem"}
    assert "query" not in findings


def test_missing_scopes_are_named(local: LocalPostHog) -> None:
    few = examined(local, api_key=key_with(local, "query:read"))
    none = examined(local, api_key=key_with(local, "cohort:read"))

    assert few["scopes"].state == "warning"
    assert "property_definition:read" in few["scopes"].remedy
    assert few["query"].state == "ok"
    assert none["scopes"].state == none["query"].state == "problem"
    assert "query:read" in none["query"].remedy


def test_a_project_that_is_not_there_is_answered_with_those_that_are(local: LocalPostHog) -> None:
    findings = examined(local, project_id=77)

    assert findings["project"].state == "problem"
    assert "1 (Embedded PostHog)" in findings["project"].remedy


def test_a_key_of_another_project_is_told(local: LocalPostHog) -> None:
    other = local.new_project("Other")
    findings = examined(local, api_key=other.personal_api_key)

    assert states(findings) == {"scopes": "warning", "project of the key": "problem"}
    assert f"set POSTHOG_PROJECT_ID to {other.project_id}" in findings["project of the key"].remedy


def test_a_token_of_another_project_is_told(local: LocalPostHog) -> None:
    other = local.new_project("Another")

    assert examined(local, project_api_key=other.project_api_key)["token"].state == "problem"


@pytest.mark.parametrize(("ahead", "said"), [(-3600.0, "ahead"), (3600.0, "behind")])
def test_a_clock_that_is_wrong_is_told(local: LocalPostHog, ahead: float, said: str) -> None:
    clock = examined(local, ahead)["clock"]

    assert clock.state == "warning"
    assert clock.found.endswith(f"s {said}")
