"""Checks of what an embedded PostHog is started with: what cannot work is said before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .faults import Fault
from .keys import check_scopes
from .limits import choose

__all__ = ["LOOPBACK", "MAX_EVENTS", "MAX_SEED", "check_timezone", "checked", "faults_as_json"]

MAX_EVENTS = 100_000_000
MAX_SEED = 2**64 - 1
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def checked(given: dict[str, Any], *, allow_remote: bool) -> dict[str, Any]:
    """Return the settings for the child, as JSON has them.

    Args:
        given: Arguments of `LocalPostHog` by name.
        allow_remote: Whether a host may be bound that others can reach.

    Raises:
        ValueError: One of them cannot work; the text says which and why.
    """
    _check_whole("events", given["events"], MAX_EVENTS)
    _check_whole("seed", given["seed"], MAX_SEED)
    _check_whole("port", given["port"], 65_535)
    _check_host(given["host"], allow_remote)
    for name in ("personal_api_key", "project_api_key"):
        if given[name] is not None:
            _check_key(name, given[name])
    if given["personal_api_key"] == given["project_api_key"] is not None:
        raise ValueError("personal_api_key and project_api_key must not be the same")
    limits = choose(given["limits"])
    end = given["end"]
    if end is not None and not isinstance(end, datetime):
        raise ValueError(f"end must be a datetime, got {end!r}")
    _check_seconds("query_seconds", given["query_seconds"])
    if given["timezone"] is not None:
        check_timezone(given["timezone"])
    return {
        **given,
        "limits": limits and limits.to_json(),
        "faults": faults_as_json(given["faults"] or ()),
        "scopes": list(check_scopes(given["scopes"])),
        "end": end and end.isoformat(),
    }


def faults_as_json(faults: Iterable[Any]) -> list[dict[str, Any]]:
    """Return lines of a script of faults as JSON has them.

    Raises:
        ValueError: One of them cannot be.
    """
    if isinstance(faults, (str, Fault)) or not isinstance(faults, Iterable):
        raise ValueError(f"faults must be a list, got {faults!r}")
    return [Fault.of(fault).to_json() for fault in faults]


def check_timezone(name: Any) -> None:
    """Refuse what is no time zone.

    Raises:
        ValueError: It is none.
    """
    try:
        # A name of the zone database: a path would read a file.
        if isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_+/-]*", name):
            ZoneInfo(name)
            return
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise ValueError(f"timezone must be a name such as 'Europe/Berlin', got {name!r}")


def _check_whole(name: str, value: Any, most: int) -> None:
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if not 0 <= value <= most:
        raise ValueError(f"{name} must be between 0 and {most:,}, not {value}")


def _check_seconds(name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 86_400:
        raise ValueError(f"{name} must be a number of seconds above 0 and up to 86,400, got {value!r}")


def _check_host(host: Any, allow_remote: bool) -> None:
    if not isinstance(host, str) or not re.fullmatch(r"[A-Za-z0-9.:-]+", host):
        raise ValueError(f"host must be a name or an address, got {host!r}")
    if host not in LOOPBACK and not allow_remote:
        raise ValueError(
            f"host {host!r} may be reached by others, who then can read and change everything with the key: "
            "say allow_remote=True (--allow-remote) if that is wanted"
        )


def _check_key(name: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,200}", value):
        raise ValueError(f"{name} must be 1 to 200 letters of ASCII without blanks")
