"""What can go wrong with a sandbox itself, a class for each remedy.

::

    PostHogError
    └── SandboxError
        ├── SandboxAuthError          E2B does not accept its key: fix E2B_API_KEY
        ├── SandboxConfigError        this way of isolation or delivery cannot work here (also a ConfigurationError)
        ├── SandboxRateLimitError     too many sandboxes: wait, or run fewer at once
        ├── SandboxUnavailableError   E2B is in trouble: try again later
        ├── SandboxLostError          the sandbox is gone or cannot be reached: a query may be repeated
        ├── SandboxTimeoutError       it took too long and was ended: ask for less, or raise a limit
        ├── SandboxRunError           what ran inside failed or gave no result: read ``detail``
        └── ResultTooLargeError       the result is over ``max_result_bytes``: ask for less

What PostHog answers to a query keeps the client's own classes (`posthog_driver.exceptions`), wherever it was asked.
"""

from __future__ import annotations

from posthog_driver.exceptions import ConfigurationError, PostHogError

__all__ = [
    "ResultTooLargeError",
    "SandboxAuthError",
    "SandboxConfigError",
    "SandboxError",
    "SandboxLostError",
    "SandboxRateLimitError",
    "SandboxRunError",
    "SandboxTimeoutError",
    "SandboxUnavailableError",
]


class SandboxError(PostHogError):
    """Root of the sandbox's own failures; ``detail`` is the end of standard error, where there is any."""


class SandboxAuthError(SandboxError):
    """The sandbox service does not accept its key."""


class SandboxConfigError(SandboxError, ConfigurationError):
    """The sandbox that was asked for cannot be had: nothing weaker takes its place, and nothing ran."""


class SandboxRateLimitError(SandboxError):
    """The service, or ``max_concurrent``, allows no further sandbox now; PostHog's limits are `RateLimitError`."""


class SandboxUnavailableError(SandboxError):
    """The sandbox service is in trouble; trying again later makes sense."""


class SandboxLostError(SandboxError):
    """The sandbox is gone or out of reach; as a query only reads, it may be repeated in a fresh one."""


class SandboxTimeoutError(SandboxError):
    """It ran past its time, and everything in it was ended."""


class SandboxRunError(SandboxError):
    """What ran inside failed, was ended by a limit, or gave no result that can be trusted."""


class ResultTooLargeError(SandboxError):
    """The result has more bytes than ``max_result_bytes``; nothing of it is returned."""
