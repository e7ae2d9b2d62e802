"""Tools for the Claude Agent SDK: an MCP server in the process of the program.

::

    from claude_agent_sdk import ClaudeAgentOptions, query
    from posthog_driver.tools import Toolkit, agent_sdk

    with PostHogClient() as posthog, Toolkit(posthog) as toolkit:
        options = ClaudeAgentOptions(
            mcp_servers={agent_sdk.NAME: agent_sdk.server(toolkit)}, allowed_tools=agent_sdk.ALLOWED_TOOLS
        )
        async for message in query(prompt=question, options=options):
            print(message)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthog_driver._version import __version__
from posthog_driver.exceptions import MissingDependencyError

try:
    from claude_agent_sdk import create_sdk_mcp_server
except ImportError as error:
    raise MissingDependencyError(
        'This server needs the package claude-agent-sdk: pip install "posthog-driver[claude-agent-sdk]".'
    ) from error

from posthog_driver.tools.mcp_server import NAME, register

if TYPE_CHECKING:
    from posthog_driver.tools.toolkit import Toolkit

__all__ = ["ALLOWED_TOOLS", "NAME", "server"]

ALLOWED_TOOLS = [f"mcp__{NAME}"]
"""For ``ClaudeAgentOptions(allowed_tools=...)``: that the tools only read grants no permission by itself."""


def server(toolkit: Toolkit) -> Any:
    """Return the server for ``ClaudeAgentOptions(mcp_servers={NAME: ...})``; an interrupt cancels running queries."""
    # With mcp 1 the SDK hands cancellations on to servers of its own making only.
    config = create_sdk_mcp_server(NAME, version=__version__)
    config["instance"].instructions = toolkit.system_prompt()
    register(config["instance"], toolkit)
    return config
