"""What events say of their person without being asked."""

from __future__ import annotations

from typing import Any

import pytest

from posthog_driver.local.first_touch import with_first_touch


def test_the_newest_and_the_first_value_become_properties_of_the_person() -> None:
    properties = {"$browser": "Firefox", "utm_source": "news", "plan": "team"}

    assert with_first_touch("$pageview", properties) == {
        **properties,
        "$set": {"$browser": "Firefox", "utm_source": "news"},
        "$set_once": {"$initial_browser": "Firefox", "$initial_utm_source": "news"},
    }
    assert properties == {"$browser": "Firefox", "utm_source": "news", "plan": "team"}


def test_what_the_sender_sets_goes_before() -> None:
    own = {"$set": {"$browser": "Mine", "name": "Ada"}, "$set_once": {"$initial_browser": "First"}}

    found = with_first_touch("signed_up", {"$browser": "Firefox", **own})

    assert (found["$set"], found["$set_once"]) == (own["$set"], own["$set_once"])


@pytest.mark.parametrize(
    ("event", "properties"),
    [
        ("$pageview", {"plan": "team", "$set": {"a": 1}}),
        ("$snapshot", {"$browser": "Firefox"}),
        ("$pageview", {"$os": "Linux", "$os_version": "6", "$is_server": True}),
    ],
)
def test_other_events_say_nothing(event: str, properties: dict[str, Any]) -> None:
    assert with_first_touch(event, properties) is properties


def test_a_malformed_set_counts_as_none() -> None:
    assert with_first_touch("e", {"$os": "iOS", "$set": "x", "$set_once": [1]}) == {
        "$os": "iOS",
        "$set": {"$os": "iOS"},
        "$set_once": {"$initial_os": "iOS"},
    }


@pytest.mark.parametrize(("given", "expected"), [({}, "iOS"), ({"$os": "Apple"}, "Apple")])
def test_the_other_name_of_the_system_fills_in_for_it(given: dict[str, Any], expected: str) -> None:
    found = with_first_touch("e", {"$os_name": "iOS", **given})

    assert found["$set"] == {"$os": expected}
    assert found["$set_once"] == {"$initial_os": expected}
