"""Use the MCP server from a program of your own: list its tools, and ask for the users of each week.

::

    pip install "posthog-driver[mcp]"
    export POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/mcp_client.py '$pageview'                                # starts the server by itself
    posthog-driver mcp --http &                                              # or one that others use, too
    python examples/mcp_client.py '$pageview' --url http://127.0.0.1:8011/mcp
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


async def ask(event: str, url: str | None) -> None:
    """Print what the server offers and what it answers."""
    # A client hands few variables on by itself; these tell the server which PostHog to ask, and with which key.
    settings = {name: value for name, value in os.environ.items() if name.startswith("POSTHOG_")}
    command = StdioServerParameters(command=sys.executable, args=["-m", "posthog_driver", "mcp"], env=settings)
    connection: Any = streamable_http_client(url) if url else stdio_client(command)
    async with connection as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        for tool in (await session.list_tools()).tools:
            print(f"{tool.name}: {(tool.description or '').splitlines()[0]}")
        arguments = {"events": [event], "every": "week", "since": "-8w"}
        result: Any = await session.call_tool("posthog_trend", arguments)
        print(result.content[0].text)


def main() -> None:
    """Ask the server for the event of the command line."""
    parser = argparse.ArgumentParser(description="Ask the MCP server for the users of each week.")
    parser.add_argument("event", help="name of an event, such as $pageview")
    parser.add_argument("--url", default=None, help="of a server that runs; default: start one")
    options = parser.parse_args()
    asyncio.run(ask(options.event, options.url))


if __name__ == "__main__":
    main()
