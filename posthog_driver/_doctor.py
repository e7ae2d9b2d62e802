"""``posthog-driver doctor``: what stands between these settings and an answer, and what to do about it.

Each check ends in one `Finding`; those that need what an earlier one did not get are left out. Nothing is changed, and
no key is shown.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from posthog_driver._version import __version__
from posthog_driver.client import PostHogClient
from posthog_driver.config import PostHogConfig, ingestion_url
from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ObjectNotFoundError,
    PostHogError,
    RateLimitError,
)
from posthog_driver.logging_config import mask_api_key, redact

__all__ = ["Finding", "diagnose"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"

_PACKAGES = ("requests", "urllib3", "msgspec", "chdb-core", "mcp", "anthropic", "e2b")
_USEFUL = ("query:read", "project:read", "event_definition:read", "property_definition:read")
"""Scopes of a key that asks and discovers."""

_MOST_SKEW = 60.0
"""Seconds by which a clock may differ: events take their time from it."""

_PER_MINUTE, _PER_HOUR, _RUNNING = 240, 2_400, 3
"""PostHog's limits of a project's queries."""

_REGIONS = {"us.posthog.com": "https://eu.posthog.com", "eu.posthog.com": "https://us.posthog.com"}
_PROXY_REMEDY = "the proxy does not answer or does not let it through: check HTTPS_PROXY and NO_PROXY"
_SIGNS = {
    "certificate": "the certificate is not trusted here: REQUESTS_CA_BUNDLE names the file of your own authority",
    **dict.fromkeys(
        ("not known", "name resolution", "nodename nor servname", "no address associated"),
        "the host name is not known here: check POSTHOG_API_URL, and DNS",
    ),
    "refused": "nothing listens there: check host and port of POSTHOG_API_URL",
    "timed out": "no answer: a firewall or a proxy may swallow it; try the address from this machine with curl",
    "_ssl.c": "TLS cannot be agreed on: does this port speak https, or does something in between break it?",
}


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        check: What was looked at.
        state: ``ok``, ``warning`` or ``problem``.
        found: What it is.
        remedy: What to do; empty when all is well.
    """

    check: str
    state: str
    found: str
    remedy: str = ""


def diagnose(
    settings: Callable[[], PostHogConfig],
    *,
    environment: Mapping[str, str] = os.environ,
    wall: Callable[[], float] = time.time,
) -> Iterator[Finding]:
    """Yield what the checks find, one after another.

    Args:
        settings: Gives the settings, or raises what is wrong with them.
        environment: Where proxies are set.
        wall: Seconds since 1970 by the clock of this machine.
    """
    yield Finding("versions", OK, _versions())
    try:
        config = settings()
    except PostHogError as error:
        yield Finding("settings", PROBLEM, redact(str(error)), "set what is named, in the environment or in .env")
        return
    yield Finding(
        "settings", OK, f"project {config.project_id} at {config.api_url}, key {mask_api_key(config.api_key)}"
    )
    yield from _keys(config)
    yield from _addresses(config)
    yield from _limits(config)
    proxy = _proxies(config, environment)
    if proxy:
        yield proxy
    with PostHogClient(config.replace({"max_retries": 1, "timeout": 10.0, "total_timeout": 15.0})) as client:
        yield from _asked(client, wall, through_proxy=proxy is not None)


def _versions() -> str:
    found = [f"posthog-driver {__version__}", f"Python {platform.python_version()}", platform.system()]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


# --- without a request ------------------------------------------------------------------------------------------------


def _keys(config: PostHogConfig) -> Iterator[Finding]:
    if config.api_key.startswith("phc_"):
        remedy = "POSTHOG_PERSONAL_API_KEY takes a personal key (phx_...): Settings > Personal API keys"
        yield Finding("kind of key", PROBLEM, "the project token stands where the personal key belongs", remedy)
    elif not config.api_key.startswith("phx_"):
        yield Finding("kind of key", WARNING, "the personal key does not begin with phx_", "check that it is whole")
    if config.project_api_key and config.project_api_key.startswith("phx_"):
        remedy = "POSTHOG_PROJECT_API_KEY takes the project token (phc_...): a personal key does not belong into events"
        yield Finding("kind of token", PROBLEM, "a personal key stands where the project token belongs", remedy)


def _addresses(config: PostHogConfig) -> Iterator[Finding]:
    address = urlsplit(config.api_url)
    host = address.hostname or ""
    if host.endswith(".i.posthog.com"):
        remedy = f"set POSTHOG_API_URL to https://{host.replace('.i.', '.', 1)}"
        yield Finding("address", PROBLEM, f"{host} takes events in, and answers no questions", remedy)
    elif address.scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        yield Finding("address", WARNING, "the key is sent without encryption", "use https:// in POSTHOG_API_URL")
    if host in _REGIONS and config.capture_url != ingestion_url(config.api_url):
        other = urlsplit(config.capture_url).hostname
        remedy = f"take POSTHOG_CAPTURE_URL away: events of this project go to {ingestion_url(config.api_url)}"
        yield Finding("address of capture", WARNING, f"questions go to {host}, events to {other}", remedy)


def _limits(config: PostHogConfig) -> Iterator[Finding]:
    own = (
        ("a minute", config.rate_limit_per_minute, _PER_MINUTE),
        ("an hour", config.rate_limit_per_hour, _PER_HOUR),
        ("at once", config.max_concurrent, _RUNNING),
    )
    over = [
        f"{limit or 'any number'} {when} (PostHog: {most})" for when, limit, most in own if (limit or most + 1) > most
    ]
    if over:
        remedy = "fine for a server of your own; on PostHog Cloud queries over its limits are refused"
        yield Finding("limits", WARNING, f"this client lets through {', '.join(over)}", remedy)


def _proxies(config: PostHogConfig, environment: Mapping[str, str]) -> Finding | None:
    address = urlsplit(config.api_url)
    name = f"{address.scheme}_proxy"
    proxy = environment.get(name) or environment.get(name.upper())
    direct = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    host = address.hostname or ""
    if not proxy or any(name.strip() and f".{host}".endswith(f".{name.strip().lstrip('.')}") for name in direct):
        return None
    through = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return Finding("proxy", OK, f"requests go through {through.hostname}:{through.port or 80} ({name.upper()})")


# --- with requests ----------------------------------------------------------------------------------------------------


def _asked(client: PostHogClient, wall: Callable[[], float], *, through_proxy: bool) -> Iterator[Finding]:
    found, key = _key(client, through_proxy=through_proxy)
    yield found
    if found.state == PROBLEM:
        return
    if key:
        yield _scopes(key)
        if elsewhere := _other_project(client, key):
            yield elsewhere
            return
    project: dict[str, Any] = {}
    try:
        project = client.get_project_info()
        yield Finding("project", OK, f"{project.get('name')} (time zone {project.get('timezone')})")
    except PostHogError as error:
        yield _no_project(client, error)
        if isinstance(error, ObjectNotFoundError):
            return
    yield from _token(client, project)
    yield from _query(client, wall)


def _key(client: PostHogClient, *, through_proxy: bool) -> tuple[Finding, dict[str, Any]]:
    """Whether there is somebody at the address, and knows the key."""
    try:
        key = client.request("/api/personal_api_keys/@current/")
    except AuthorizationError:
        return Finding("key", OK, "accepted; it may not say what it may do"), {}
    except AuthenticationError as error:
        other = _REGIONS.get(urlsplit(client.api_url).hostname or "")
        elsewhere = f"; if the project lives in the other region, set POSTHOG_API_URL={other}" if other else ""
        remedy = f"make one under Settings > Personal API keys and set POSTHOG_PERSONAL_API_KEY{elsewhere}"
        return Finding("key", PROBLEM, f"PostHog does not know it: {_first_line(error)}", remedy), {}
    except ObjectNotFoundError:
        return Finding("key", WARNING, "this PostHog does not tell about keys", "it may be an old version"), {}
    except RateLimitError as error:
        return Finding("key", WARNING, _first_line(error), "the project's limit is used up for now: wait"), {}
    except PostHogError as error:
        words = _first_line(error)
        unreached = through_proxy and error.status is None
        remedy = _network_remedy(words.casefold(), through_proxy=unreached)
        return Finding("network", PROBLEM, words, remedy), {}
    return Finding("key", OK, f"accepted by {urlsplit(client.api_url).netloc}: {key.get('label')}"), key


def _network_remedy(words: str, *, through_proxy: bool) -> str:
    if through_proxy and "certificate" not in words and "_ssl.c" not in words:
        return _PROXY_REMEDY
    signs = (remedy for sign, remedy in _SIGNS.items() if sign in words)
    return next(signs, "check POSTHOG_API_URL, the network, and status.posthog.com")


def _scopes(key: Mapping[str, Any]) -> Finding:
    scopes = [str(scope) for scope in key.get("scopes") or ()]
    if "*" in scopes:
        remedy = "a key with query:read for this one project cannot do harm"
        return Finding("scopes", WARNING, "the key may do everything that you may", remedy)
    missing = [scope for scope in _USEFUL if scope not in scopes and scope.replace(":read", ":write") not in scopes]
    state = PROBLEM if "query:read" in missing else WARNING if missing else OK
    remedy = f"add {', '.join(missing)} to the key: without them queries or discovery are refused" if missing else ""
    return Finding("scopes", state, ", ".join(scopes) or "none", remedy)


def _other_project(client: PostHogClient, key: Mapping[str, Any]) -> Finding | None:
    teams = [str(team) for team in key.get("scoped_teams") or ()]
    if not teams or client.project_id in (*teams, "@current"):
        return None
    remedy = f"set POSTHOG_PROJECT_ID to {' or '.join(teams)}, or make a key for project {client.project_id}"
    return Finding("project of the key", PROBLEM, f"the key is for project {', '.join(teams)}", remedy)


def _no_project(client: PostHogClient, error: PostHogError) -> Finding:
    try:
        listed = client.request("/api/projects/").get("results") or []
        names = ", ".join(f"{project.get('id')} ({project.get('name')})" for project in listed[:10])
    except PostHogError:
        names = ""
    remedy = f"set POSTHOG_PROJECT_ID to one that the key may read: {names}" if names else (
        "POSTHOG_PROJECT_ID is the number in the app's URL; the key needs project:read to tell more"
    )  # fmt: skip
    state = WARNING if isinstance(error, AuthorizationError) else PROBLEM
    return Finding("project", state, _first_line(error), remedy)


def _token(client: PostHogClient, project: Mapping[str, Any]) -> Iterator[Finding]:
    if not client.project_api_key:
        yield Finding("token", OK, "none is set: events and flags need POSTHOG_PROJECT_API_KEY, queries do not")
    elif project.get("api_token") and project["api_token"] != client.project_api_key:
        remedy = "copy the token from Settings > Project: events and flags go to another project now"
        yield Finding("token", PROBLEM, "POSTHOG_PROJECT_API_KEY is not this project's token", remedy)
    else:
        yield Finding("token", OK, "set for events and flags")


def _query(client: PostHogClient, wall: Callable[[], float]) -> Iterator[Finding]:
    before = wall()
    try:
        rows = client.query("SELECT toUnixTimestamp(now()) AS now LIMIT 1", fresh=True)
    except PostHogError as error:
        remedy = "the key needs the scope query:read" if isinstance(error, AuthorizationError) else "see the error"
        yield Finding("query", PROBLEM, _first_line(error), remedy)
        return
    after = wall()
    yield Finding("query", OK, f"answered in {after - before:.2f} s")
    skew = float(rows[0]["now"]) - (before + after) / 2
    if abs(skew) > _MOST_SKEW + (after - before):
        state, remedy = WARNING, "set this machine's clock (NTP): events take their time from it"
        yield Finding("clock", state, f"PostHog's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}", remedy)
    else:
        yield Finding("clock", OK, "agrees with PostHog's")
    objects = client.list_objects()
    state = OK if client.schema_source == "live" else WARNING
    yield Finding("discovery", state, f"{len(objects)} objects, from the {client.schema_source} schema")


def _first_line(error: PostHogError) -> str:
    return redact(error.message).splitlines()[0]
