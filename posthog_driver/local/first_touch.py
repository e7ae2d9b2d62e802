"""What an event says of its person without being asked: the newest value, and the first one as ``$initial_...``.

Where from, with what and by which campaign somebody came is sent with every event; PostHog keeps it on the person.
Source: ``personInitialAndUTMProperties`` and ``person-property-utils`` of PostHog's ingestion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["UNIMPORTANT", "with_first_touch"]

_DEVICE = """
$app_build $app_name $app_namespace $app_version $browser $browser_version $device_type $current_url $pathname $os
$os_name $os_version $referring_domain $referrer $screen_height $screen_width $viewport_height $viewport_width
$raw_user_agent
"""
_CAMPAIGN = """
utm_source utm_medium utm_campaign utm_content utm_name utm_term gclid gad_source gclsrc dclid gbraid wbraid fbclid
msclkid twclid li_fat_id mc_cid igshid ttclid rdt_cid irclid _kx epik qclid sccid
"""
_INITIAL = {name: f"$initial_{name.removeprefix('$')}" for name in (*_DEVICE.split(), *_CAMPAIGN.split())}
_OF_A_HOST = ("$os", "$os_version")
_NOT_OF_PEOPLE = ("$snapshot", "$performance_event")

UNIMPORTANT = frozenset(_DEVICE.split()) - {"$app_build", "$app_name", "$app_namespace", "$app_version"}
"""Properties that change with every page: alone they are no reason to store a person anew."""


def with_first_touch(event: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event's properties with ``$set`` and ``$set_once`` of what it says of its person."""
    skipped = _OF_A_HOST if properties.get("$is_server") is True else ()
    told = [name for name in _INITIAL if name in properties and name not in skipped]
    if not told or event in _NOT_OF_PEOPLE:
        return properties
    now = {name: properties[name] for name in told} | _object(properties.get("$set"))
    first = {_INITIAL[name]: properties[name] for name in told} | _object(properties.get("$set_once"))
    if os_name := properties.get("$os_name"):
        # Some libraries call it so: it is the system's name where that is not given.
        now.setdefault("$os", os_name)
        first.setdefault("$initial_os", os_name)
        now.pop("$os_name", None)
        first.pop("$initial_os_name", None)
    return {**properties, "$set": now, "$set_once": first}


def _object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
