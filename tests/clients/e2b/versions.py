"""What the installed package e2b can do: on Python 3.10 it is one that cannot stream to a command's input."""

from __future__ import annotations

from typing import Literal

from e2b.sandbox_sync.commands.command import Commands

__all__ = ["ANY", "BROKER"]

BROKER = hasattr(Commands, "stream_input")
ANY: Literal["broker", "egress"] = "broker" if BROKER else "egress"
"""A delivery for tests that are not about deliveries."""
