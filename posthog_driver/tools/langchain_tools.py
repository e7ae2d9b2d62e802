"""Tools for LangChain and LangGraph: ``create_agent(model, tools=langchain_tools.tools(toolkit))``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthog_driver.exceptions import MissingDependencyError
from posthog_driver.tools import in_thread

try:
    from langchain_core.tools import BaseTool, ToolException
except ImportError as error:
    raise MissingDependencyError(
        'These tools need the package langchain-core: pip install "posthog-driver[langchain]".'
    ) from error

if TYPE_CHECKING:
    from posthog_driver.tools.toolkit import Answer, Toolkit

__all__ = ["tools"]


def tools(toolkit: Toolkit) -> list[BaseTool]:
    """Return the tools; a failed call is a ``ToolMessage`` with the status ``error``."""
    return [
        _Tool(name=each["name"], description=each["description"], args_schema=each["input_schema"], toolkit=toolkit)
        for each in toolkit.definitions()
    ]


class _Tool(BaseTool):
    toolkit: Any
    handle_tool_error: bool = True

    def _run(self, /, **arguments: Any) -> str:
        return _text(self.toolkit.dispatch(self.name, arguments))

    async def _arun(self, /, **arguments: Any) -> str:
        return _text(await in_thread.dispatch(self.toolkit, self.name, arguments))


def _text(answer: Answer) -> str:
    if answer.is_error:
        raise ToolException(answer.text)
    return answer.text
