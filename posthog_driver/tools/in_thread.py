"""A call of a tool from asynchronous code: in a thread, so that the calls of one turn run side by side."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import anyio.lowlevel
import anyio.to_thread

if TYPE_CHECKING:
    from typing import Any

    from posthog_driver.tools.toolkit import Answer, Toolkit

__all__ = ["dispatch"]


async def dispatch(toolkit: Toolkit, name: str, arguments: Any) -> Answer:
    """Answer a call as ``toolkit.dispatch`` does, without blocking the event loop (asyncio or trio).

    If the awaiting task is cancelled, it ends at once, and so does the query that PostHog runs for it.
    """
    cancel = threading.Event()
    work = partial(toolkit.dispatch, name, arguments, cancel=cancel)
    try:
        answer = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        # mcp 1 stops the whole server if a call answers that was cancelled while its answer was on the way.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        cancel.set()
        raise
    return answer
