"""Settings, checked once: argument, then environment (``.env`` on request), then default.

A :class:`PostHogConfig` is frozen and valid by construction; every problem is named at once, and no key is ever shown.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from posthog_driver.exceptions import AuthenticationError, ConfigurationError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DEFAULT_API_URL", "DriverConfig", "PostHogConfig", "check_seconds", "ingestion_url"]

DEFAULT_API_URL = "https://us.posthog.com"

# The map of PostHog's own SDK: three known app hosts, compared whole. Any other host serves its own ingestion.
_INGESTION_HOSTS = {
    "us.posthog.com": "https://us.i.posthog.com",
    "eu.posthog.com": "https://eu.i.posthog.com",
    "app.posthog.com": "https://us.i.posthog.com",
}
# Longer waits overflow in the operating system's calls.
_MOST_SECONDS = 1_000_000
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# Field -> (environment variable, how its text is read).
_ENVIRONMENT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "api_key": ("POSTHOG_PERSONAL_API_KEY", str),
    "project_id": ("POSTHOG_PROJECT_ID", str),
    "project_api_key": ("POSTHOG_PROJECT_API_KEY", str),
    "api_url": ("POSTHOG_API_URL", str),
    "capture_url": ("POSTHOG_CAPTURE_URL", str),
    "timeout": ("POSTHOG_TIMEOUT", float),
    "max_retries": ("POSTHOG_MAX_RETRIES", int),
    "log_level": ("POSTHOG_LOG_LEVEL", str),
}


def ingestion_url(api_url: str) -> str:
    """Return where events and flags go for an app host, as PostHog's own SDK maps it.

    ``https://us.posthog.com`` and ``https://app.posthog.com`` give ``https://us.i.posthog.com``, the EU host its own
    one; any other URL is returned as it is.
    """
    parts = urlsplit(api_url)
    return _INGESTION_HOSTS.get(parts.hostname or "", api_url) if parts.port in (None, 443) else api_url


class PostHogConfig:
    """Everything a client needs to know; frozen, comparable, and safe to print.

    Args:
        api_key: Personal API key (``phx_...``); any non-empty printable text without white space.
        project_id: A number (as int or text) or ``"@current"``; kept as text.
        project_api_key: Project token (``phc_...``) for capture and flags; optional.
        api_url: App host, http or https.
        capture_url: Ingestion host; derived from ``api_url`` by `ingestion_url` if None.
        timeout: Seconds for one attempt with its whole response; up to 1,000,000.
        total_timeout: Seconds for one call with all attempts, waits and polling; up to 1,000,000.
        max_retries: Tries a call may take; 0 and 1 both mean one.
        rate_limit_per_minute: Queries a minute; PostHog allows 240. None: no limit on this side.
        rate_limit_per_hour: Queries an hour; PostHog allows 2,400. None: no limit on this side.
        max_concurrent: Queries running at once; PostHog runs 3 a project. None: no limit on this side.
        log_level: Level that the command line logs at.

    Raises:
        AuthenticationError: there is no ``api_key``.
        ConfigurationError: anything else is wrong; the message lists every problem.
    """

    __slots__ = (
        "api_key",
        "api_url",
        "capture_url",
        "log_level",
        "max_concurrent",
        "max_retries",
        "project_api_key",
        "project_id",
        "rate_limit_per_hour",
        "rate_limit_per_minute",
        "timeout",
        "total_timeout",
    )

    api_key: str
    project_id: str
    project_api_key: str | None
    api_url: str
    capture_url: str
    timeout: float
    total_timeout: float
    max_retries: int
    rate_limit_per_minute: int | None
    rate_limit_per_hour: int | None
    max_concurrent: int | None
    log_level: str

    def __init__(
        self,
        api_key: str,
        project_id: str | int,
        project_api_key: str | None = None,
        api_url: str = DEFAULT_API_URL,
        capture_url: str | None = None,
        timeout: float = 30.0,
        total_timeout: float = 300.0,
        max_retries: int = 3,
        rate_limit_per_minute: int | None = 240,
        rate_limit_per_hour: int | None = 2400,
        max_concurrent: int | None = 3,
        log_level: str = "INFO",
    ) -> None:
        check = _Check()
        api_url = check.url("api_url", api_url)
        capture_url = check.url("capture_url", capture_url) if capture_url else ""
        if not capture_url and not check.problems:
            capture_url = ingestion_url(api_url)
        values = {
            "api_key": check.key("api_key", api_key) or "",
            "project_id": check.project_id(project_id),
            "project_api_key": check.key("project_api_key", project_api_key),
            "api_url": api_url,
            "capture_url": capture_url,
            "timeout": check.seconds("timeout", timeout),
            "total_timeout": check.seconds("total_timeout", total_timeout),
            "max_retries": check.whole("max_retries", max_retries, least=0),
            "rate_limit_per_minute": check.limit("rate_limit_per_minute", rate_limit_per_minute),
            "rate_limit_per_hour": check.limit("rate_limit_per_hour", rate_limit_per_hour),
            "max_concurrent": check.limit("max_concurrent", max_concurrent),
            "log_level": check.level("log_level", log_level),
        }
        if not values["api_key"] and not any(p.startswith("api_key ") for p in check.problems):
            missing = "no API key: give api_key= or set POSTHOG_PERSONAL_API_KEY (a personal API key, phx_...)"
            raise AuthenticationError("; ".join([missing, *check.problems]))
        check.finish()
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_env(cls, dotenv: bool = False, overrides: Mapping[str, Any] | None = None) -> PostHogConfig:
        """Read the environment; ``overrides`` that are not None win over it, and it wins over the defaults.

        Args:
            dotenv: Also read ``.env`` in the working folder; real variables win over it.
            overrides: Values by field name.

        Raises:
            AuthenticationError: no key in ``overrides`` or ``POSTHOG_PERSONAL_API_KEY``.
            ConfigurationError: no project in ``overrides`` or ``POSTHOG_PROJECT_ID``, or a value that cannot be.
        """
        environment: Mapping[str, str | None] = os.environ
        if dotenv:
            environment = {**_dotenv(), **os.environ}
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        values: dict[str, Any] = {"api_key": "", "project_id": ""}
        problems = []
        for name, (variable, read) in _ENVIRONMENT.items():
            text = (environment.get(variable) or "").strip()
            if text and name not in given:
                try:
                    values[name] = read(text)
                except ValueError:
                    kind = "a whole number" if read is int else "a number of seconds"
                    problems.append(f"{variable} must be {kind}, not {_shown(text)}")
        try:
            config = cls(**{**values, **given})
        except (AuthenticationError, ConfigurationError) as error:
            raise type(error)("; ".join([*problems, str(error)])) from None
        if problems:
            raise ConfigurationError("; ".join(problems))
        return config

    def replace(self, changes: Mapping[str, Any]) -> PostHogConfig:
        """Return a copy with the ``changes`` that are not None; a derived ``capture_url`` follows a new ``api_url``."""
        given = {name: value for name, value in changes.items() if value is not None}
        values = {name: getattr(self, name) for name in self.__slots__}
        if self.capture_url == ingestion_url(self.api_url):
            values["capture_url"] = None
        return type(self)(**{**values, **given})

    def validate(self) -> None:
        """Do nothing: a config that exists is valid. Kept for code written for configs that are checked late."""

    def __setattr__(self, name: str, value: object) -> None:
        raise _frozen(f"PostHogConfig is frozen: use config.replace({{{name!r}: ...}})")

    def __delattr__(self, name: str) -> None:
        raise _frozen(f"PostHogConfig is frozen: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PostHogConfig):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__slots__))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {name: getattr(self, name) for name in self.__slots__})

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__slots__}
        for name in ("api_key", "project_api_key"):
            shown[name] = "<hidden>" if shown[name] else None
        return f"PostHogConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _frozen(message: str) -> AttributeError:
    """Return the error of frozen dataclasses, which is what people expect; that module is loaded for it alone."""
    from dataclasses import FrozenInstanceError

    return FrozenInstanceError(message)


def _rebuild(cls: type[PostHogConfig], values: dict[str, Any]) -> PostHogConfig:
    return cls(**values)


DriverConfig = PostHogConfig


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no time-out: a positive number of seconds.

    Raises:
        ValidationError: it is none; nothing was sent.
    """
    check = _Check()
    check.seconds(name, value)
    if check.problems:
        raise ValidationError(f"{check.problems[0]}. Nothing was sent.")


class _Check:
    """Collects what is wrong, so that one error can name it all."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def finish(self) -> None:
        if self.problems:
            raise ConfigurationError("; ".join(self.problems))

    def key(self, name: str, value: object) -> str | None:
        """Return the key without outer white space; never quote it in a problem."""
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.problems.append(f"{name} must be text, not {type(value).__name__}")
            return None
        key = value.strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            self.problems.append(f"{name} holds white space, control or non-ASCII characters (it is not shown)")
        return key or None

    def project_id(self, value: object) -> str:
        number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**19
        text = str(value).strip() if number or isinstance(value, str) else None
        if text == "" or value is None:
            self.problems.append("no project: give project_id= or set POSTHOG_PROJECT_ID (the number in the app's URL)")
        elif text is None or not re.fullmatch(r"[0-9]{1,19}|@current", text):
            self.problems.append(f"project_id must be a whole number or '@current', not {_shown(value)}")
        return text or ""

    def url(self, name: str, value: object) -> str:
        problem = _url_problem(value)
        if problem:
            # The URL may hold a password, so only what is wrong is said.
            self.problems.append(f"{name} {problem}")
            return ""
        return str(value).strip().rstrip("/")

    def seconds(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MOST_SECONDS:
            most = f"{_MOST_SECONDS:,}"
            self.problems.append(f"{name} must be a positive number of seconds, {most} at most, not {_shown(value)}")
            return 0.0
        return value

    def whole(self, name: str, value: object, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.problems.append(f"{name} must be a whole number of at least {least}, not {_shown(value)}")
            return least
        return value

    def limit(self, name: str, value: object) -> int | None:
        return None if value is None else self.whole(name, value, least=1)

    def level(self, name: str, value: object) -> str:
        text = value.strip().upper() if isinstance(value, str) else ""
        if text not in _LEVELS:
            self.problems.append(f"{name} must be one of {', '.join(_LEVELS)}, not {_shown(value)}")
        return text


def _shown(value: object) -> str:
    """Return a wrong value as a message may quote it: not what may be a key in the wrong place."""
    if isinstance(value, (bool, float)) or value is None:
        return repr(value)
    if isinstance(value, int) and abs(value) < 10**19:
        return repr(value)
    if isinstance(value, str) and len(value) <= 20 and not re.match(r"\s*(?i:ph[a-z]_)", value):
        return repr(value)
    return f"this {type(value).__name__} (it is not shown)"


def _dotenv() -> dict[str, str | None]:
    from dotenv import dotenv_values

    try:
        return dotenv_values(".env", encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        kind = type(error).__name__
    # Not chained: the error of a wrong encoding holds the whole file.
    raise ConfigurationError(f"the file .env cannot be read as UTF-8 text ({kind})")


def _url_problem(value: object) -> str | None:
    """Say what is wrong with a base URL, or None."""
    if not isinstance(value, str) or not value.strip():
        return "must be a URL such as https://us.posthog.com"
    text = value.strip()
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return "holds white space, control, backslash or non-ASCII characters"
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        return "is not a URL: its host or port cannot be read"
    if parts.scheme not in ("http", "https"):
        return (
            f"must start with https:// or http://, not {parts.scheme[:20] + '://' if parts.scheme else 'a bare name'}"
        )
    if not parts.hostname:
        return "has no host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if parts.query or parts.fragment or "?" in text or "#" in text:
        return "must not have a query or a fragment"
    return None
