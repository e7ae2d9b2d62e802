"""What the package e2b raises, in this package's classes.

Half of what goes wrong there is no ``SandboxException``: a lost connection is an error of httpx, a refused key and a
busy service stand beside it, and a stream without an end is a bare ``Exception``. So this looks at the names of the
classes, the more particular ones first, and needs nothing of e2b to do so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from posthog_driver._redaction import redact
from posthog_driver.exceptions import MissingDependencyError
from posthog_driver.sandbox.errors import (
    SandboxAuthError,
    SandboxConfigError,
    SandboxError,
    SandboxLostError,
    SandboxRateLimitError,
    SandboxRunError,
    SandboxTimeoutError,
    SandboxUnavailableError,
)

__all__ = ["RUNNING", "E2BNotInstalledError", "attempt", "made_nothing", "translate"]

RUNNING = "running"

T = TypeVar("T")

_MOST_MESSAGE = 1_000
_TRANSPORTS = {"httpx", "httpcore", "pyqwest", "connectrpc"}
_ADVICE: dict[type[SandboxError], str] = {
    SandboxAuthError: "E2B does not accept the key: check E2B_API_KEY, or e2b_api_key",
    SandboxRateLimitError: "E2B allows no further sandbox or request now: wait, or run fewer at once (max_concurrent)",
    SandboxUnavailableError: "E2B is in trouble: try again later",
    SandboxLostError: "the sandbox is gone or cannot be reached",
    SandboxTimeoutError: "it took too long",
    SandboxConfigError: "E2B refuses the sandbox that was asked for",
    SandboxRunError: "it failed",
}
_ADVICE_BY_WORDS = {
    "transform rules are not available": (
        'header rules are not enabled for this team at E2B: ask E2B for them, or use secret="broker"'
    ),
    "not found": "check the name of the template",
}
_NEVER_SENT = {"ConnectError", "ConnectTimeout"}
_HINTS = {
    126: "The template's python3 cannot be run.",
    127: "The template has no python3.",
    137: "It was killed, for want of memory most likely.",
}


class E2BNotInstalledError(SandboxConfigError, MissingDependencyError):
    """The package e2b is not installed, or its version is not one that works."""


def attempt(doing: str, call: Callable[..., T], /, *arguments: Any, **options: Any) -> T:
    """Call something of the package e2b, and raise what goes wrong as one of our errors, without its cause.

    The cause is left out on purpose: its text and its frames may hold keys.

    Args:
        doing: What is being done, for the message: ``"creating a sandbox"``.
        call: What to call.
        *arguments: Its arguments.
        **options: Its keyword arguments.
    """
    try:
        return call(*arguments, **options)
    except SandboxError:
        raise
    except Exception as error:
        problem = translate(error, doing)
    raise problem


def made_nothing(error: BaseException) -> bool:
    """Tell whether a failed request certainly did nothing: it was refused, or there was no connection to send it."""
    refused = isinstance(error, (SandboxAuthError, SandboxRateLimitError, SandboxConfigError))
    return refused or getattr(error, "_never_sent", False)


def translate(error: BaseException, doing: str) -> SandboxError:
    """Return an error of e2b as one of ours.

    Args:
        error: What was raised.
        doing: What was being done.
    """
    kind = _kind(error)
    said = redact(" ".join(str(error).split()))[:_MOST_MESSAGE]
    advice = _ADVICE[kind]
    if kind is SandboxConfigError:
        advice = next((better for words, better in _ADVICE_BY_WORDS.items() if words in said), advice)
    message = f"While {doing}, {advice}. {type(error).__name__}: {said}" if said else f"While {doing}, {advice}."
    if hint := _HINTS.get(getattr(error, "exit_code", 0)):
        message += f" {hint}"
    if kind is SandboxTimeoutError and doing == RUNNING:
        message += " Code that uses up CPU or memory shows in this way too."
    status = getattr(error, "status_code", None)
    problem = kind(message, status=status if isinstance(status, int) else None)
    if type(error).__name__ in _NEVER_SENT:
        problem.__dict__["_never_sent"] = True
    return problem


def _kind(error: BaseException) -> type[SandboxError]:
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.split(".")[0] == "e2b"}
    if names:
        return _kind_of_e2b(names, getattr(error, "status_code", None))
    if isinstance(error, TimeoutError):
        return SandboxTimeoutError
    if isinstance(error, OSError):
        return SandboxLostError
    if type(error).__module__.split(".")[0] in _TRANSPORTS:
        return SandboxTimeoutError if "Timeout" in type(error).__name__ else SandboxLostError
    return SandboxRunError


def _kind_of_e2b(names: set[str], status: Any) -> type[SandboxError]:
    # The order matters: lost sandboxes derive from TimeoutException.
    if "CommandExitException" in names or "NotEnoughSpaceException" in names:
        return SandboxRunError
    if "AuthenticationException" in names:
        return SandboxAuthError
    if "RateLimitException" in names:
        return SandboxRateLimitError
    if names & {"SandboxNotRunningException", "SandboxUnreachableException", "SandboxNotFoundException"}:
        return SandboxLostError
    if "TimeoutException" in names:
        return SandboxTimeoutError
    if names & {"InvalidArgumentException", "TemplateException", "BuildException"}:
        return SandboxConfigError
    if "ServiceBusyException" in names or (isinstance(status, int) and status >= 500):
        return SandboxUnavailableError
    if isinstance(status, int) and status >= 400:
        return SandboxConfigError
    return SandboxRunError
