"""Queries and agents' code in a sandbox: E2B, or this machine; the key stays outside.

::

    from posthog_driver.sandbox import SandboxedQueries

    with SandboxedQueries() as sandboxed:                        # the client's settings; E2B if E2B_API_KEY is set
        rows = sandboxed.query("SELECT event, count() AS n FROM events GROUP BY event LIMIT 5")
        output = sandboxed.run_python("print(query('SELECT count() AS n FROM events')[0]['n'])")

Names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posthog_driver.sandbox.e2b import E2BBackend
    from posthog_driver.sandbox.errors import (
        ResultTooLargeError,
        SandboxAuthError,
        SandboxConfigError,
        SandboxError,
        SandboxLostError,
        SandboxRateLimitError,
        SandboxRunError,
        SandboxTimeoutError,
        SandboxUnavailableError,
    )
    from posthog_driver.sandbox.local import LocalBackend
    from posthog_driver.sandbox.model import PythonOutput, SandboxBackend, SandboxLimits
    from posthog_driver.sandbox.queries import SandboxedQueries, execute_in_sandbox, run_python

__all__ = [
    "E2BBackend",
    "LocalBackend",
    "PythonOutput",
    "ResultTooLargeError",
    "SandboxAuthError",
    "SandboxBackend",
    "SandboxConfigError",
    "SandboxError",
    "SandboxLimits",
    "SandboxLostError",
    "SandboxRateLimitError",
    "SandboxRunError",
    "SandboxTimeoutError",
    "SandboxUnavailableError",
    "SandboxedQueries",
    "execute_in_sandbox",
    "run_python",
]

_ELSEWHERE = {
    "E2BBackend": "e2b",
    "LocalBackend": "local",
    "PythonOutput": "model",
    "SandboxBackend": "model",
    "SandboxLimits": "model",
    "SandboxedQueries": "queries",
    "execute_in_sandbox": "queries",
    "run_python": "queries",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
