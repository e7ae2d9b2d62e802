"""Tools for the SDK ``anthropic`` (0.x to 2.x): for its ``tool_runner``, and all calls of one turn at once.

::

    from anthropic import Anthropic
    from posthog_driver.tools import Toolkit, anthropic_tools

    with PostHogClient() as posthog, Toolkit(posthog) as toolkit, Anthropic() as claude:
        runner = claude.beta.messages.tool_runner(
            model="claude-sonnet-5-5", max_tokens=4096, system=toolkit.system_prompt(),
            tools=anthropic_tools.runner_tools(toolkit), messages=[{"role": "user", "content": question}],
        )
        answer = runner.until_done()
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from posthog_driver.exceptions import MissingDependencyError
from posthog_driver.tools import in_thread

try:
    from anthropic.lib.tools import BetaAsyncBuiltinFunctionTool, BetaBuiltinFunctionTool, ToolError
except ImportError as error:
    raise MissingDependencyError(
        'These tools need the package anthropic: pip install "posthog-driver[anthropic]".'
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anthropic.types.beta import BetaToolUnionParam

    from posthog_driver.tools.toolkit import Answer, Toolkit

__all__ = ["async_runner_tools", "results", "runner_tools"]


def runner_tools(toolkit: Toolkit, *, strict: bool = False) -> list[BetaBuiltinFunctionTool]:
    """Return the tools for ``Anthropic().beta.messages.tool_runner(tools=...)``, which runs calls one after another."""
    return [_Tool(toolkit, definition) for definition in toolkit.definitions(strict=strict)]


def async_runner_tools(toolkit: Toolkit, *, strict: bool = False) -> list[BetaAsyncBuiltinFunctionTool]:
    """Return the tools for ``AsyncAnthropic().beta.messages.tool_runner(tools=...)``; they run in threads."""
    return [_AsyncTool(toolkit, definition) for definition in toolkit.definitions(strict=strict)]


def results(toolkit: Toolkit, content: Iterable[Any]) -> list[dict[str, Any]]:
    """Answer all calls of a turn side by side.

    Args:
        toolkit: Who answers.
        content: The content of the model's message; what is no ``tool_use`` is passed over.

    Returns:
        The ``tool_result`` blocks in the order of the calls: the content of the next user message. Empty if the model
        called nothing.
    """
    calls = [block for block in content if block.type == "tool_use"]
    if not calls:
        return []
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(toolkit.handle, calls))


class _Tool(BetaBuiltinFunctionTool):
    def __init__(self, toolkit: Toolkit, definition: Mapping[str, Any]) -> None:
        self._toolkit = toolkit
        self._definition = definition

    def to_dict(self) -> BetaToolUnionParam:
        return cast("BetaToolUnionParam", dict(self._definition))

    def call(self, input: object) -> str:
        return _text(self._toolkit.dispatch(self.name, cast("dict[str, Any]", input)))


class _AsyncTool(BetaAsyncBuiltinFunctionTool):
    def __init__(self, toolkit: Toolkit, definition: Mapping[str, Any]) -> None:
        self._toolkit = toolkit
        self._definition = definition

    def to_dict(self) -> BetaToolUnionParam:
        return cast("BetaToolUnionParam", dict(self._definition))

    async def call(self, input: object) -> str:
        return _text(await in_thread.dispatch(self._toolkit, self.name, cast("dict[str, Any]", input)))


def _text(answer: Answer) -> str:
    """Return the answer's text; a failure is raised, as the runner marks it then, and keeps its text as it is."""
    if answer.is_error:
        raise ToolError(answer.text)
    return answer.text
