"""Tools with which a language model answers questions from PostHog: five to read with, and one dispatcher.

::

    from posthog_driver import PostHogClient
    from posthog_driver.tools import Toolkit

    with PostHogClient() as client, Toolkit(client) as toolkit:
        toolkit.definitions()                    # for the ``tools`` of a request to a model
        toolkit.system_prompt()                  # for its ``system``
        toolkit.handle(tool_use)                 # a tool_use block -> the tool_result block

Nothing here needs a package of a model's vendor; adapters for those are modules of their own. Names are loaded on first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posthog_driver.tools.budget import Budget
    from posthog_driver.tools.definitions import SYSTEM_PROMPT, TOOL, TOOLS, Tool
    from posthog_driver.tools.toolkit import Answer, Toolkit

__all__ = ["SYSTEM_PROMPT", "TOOL", "TOOLS", "Answer", "Budget", "Tool", "Toolkit"]

_ELSEWHERE = {"Answer": "toolkit", "Budget": "budget", "Toolkit": "toolkit"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'definitions')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
