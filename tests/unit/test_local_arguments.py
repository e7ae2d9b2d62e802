"""What an embedded PostHog can be started with."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from posthog_driver.local.arguments import MAX_EVENTS, MAX_SEED, checked
from posthog_driver.local.faults import Fault
from posthog_driver.local.limits import Limits, choose

GOOD: dict[str, Any] = {
    "events": 25_000,
    "seed": 0,
    "end": None,
    "host": "127.0.0.1",
    "port": 0,
    "limits": None,
    "faults": None,
    "query_seconds": 10.0,
    "timezone": None,
    "scopes": ("*",),
    "personal_api_key": "phx_test",
    "project_api_key": "phc_test",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"events": -1}, "events must be between 0 and 100,000,000, not -1"),
        ({"events": MAX_EVENTS + 1}, "events must be between"),
        ({"events": 1.5}, "events must be a whole number, got 1.5"),
        ({"events": True}, "events must be a whole number"),
        ({"seed": "a"}, "seed must be a whole number, got 'a'"),
        ({"seed": MAX_SEED + 1}, "seed must be between"),
        ({"port": 65_536}, "port must be between 0 and 65,535"),
        ({"port": "80"}, "port must be a whole number"),
        ({"end": "2026-01-01"}, "end must be a datetime"),
        ({"limits": "none at all"}, "limits must be None"),
        ({"faults": "throttled"}, "faults must be a list"),
        ({"faults": 5}, "faults must be a list"),
        ({"faults": [{"drop": "x"}]}, "drop must be one of"),
        ({"query_seconds": 0}, "query_seconds must be a number of seconds"),
        ({"query_seconds": float("nan")}, "query_seconds must be"),
        ({"query_seconds": True}, "query_seconds must be"),
        ({"query_seconds": "10"}, "query_seconds must be"),
        ({"timezone": "Mars/Olympus"}, "timezone must be a name such as 'Europe/Berlin', got 'Mars/Olympus'"),
        ({"timezone": "/etc/passwd"}, "timezone must be a name"),
        ({"timezone": 5}, "timezone must be a name"),
        ({"scopes": []}, "scopes must be a list"),
        ({"scopes": "query:read"}, "scopes must be a list"),
        ({"scopes": ["query"]}, "Invalid scope: query"),
        ({"personal_api_key": "a\nb"}, "personal_api_key must be"),
        ({"personal_api_key": "é"}, "personal_api_key must be"),
        ({"project_api_key": ""}, "project_api_key must be"),
        ({"project_api_key": 5}, "project_api_key must be"),
        ({"project_api_key": "phx_test"}, "must not be the same"),
        ({"host": 5}, "host must be a name or an address"),
        ({"host": ""}, "host must be a name or an address"),
        ({"host": "0.0.0.0"}, "allow_remote=True"),
        ({"host": "posthog.test"}, "--allow-remote"),
    ],
)
def test_what_cannot_work_is_said(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked({**GOOD, **change}, allow_remote=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert checked({**GOOD, "host": host}, allow_remote=False)["host"] == host


def test_others_may_be_let_in_on_purpose() -> None:
    assert checked({**GOOD, "host": "0.0.0.0"}, allow_remote=True)["host"] == "0.0.0.0"


def test_what_is_good_can_be_sent_to_the_child() -> None:
    end = datetime(2026, 11, 1, tzinfo=timezone.utc)
    limits = Limits(running=1)
    given = {**GOOD, "end": end, "limits": limits, "faults": ["quota", Fault(drop="reset")], "timezone": "Asia/Tokyo"}

    settings = json.loads(json.dumps(checked(given, allow_remote=False)))

    assert datetime.fromisoformat(settings["end"]) == end
    assert choose(settings["limits"]) == limits
    assert [Fault.of(fault) for fault in settings["faults"]] == [Fault("quota"), Fault(drop="reset")]
    assert settings["scopes"] == ["*"]
