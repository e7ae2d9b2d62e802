"""The simplest tool, told in terms of the five: three operations, the same answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from posthog_driver.tools.arguments import ArgumentError
from posthog_driver.tools.definitions import SIMPLE_TOOL

__all__ = ["Meant", "resolve"]


class _Operation(NamedTuple):
    """Which tool an operation is, how its arguments are called there, and what goes with them."""

    tool: str
    names: dict[str, str]
    always: dict[str, Any]


# This tool has no argument to ask for the rest with: discovery tells everything at once, and cursors do the rest.
_OPERATIONS = {
    "list_objects": _Operation("posthog_schema", {}, {"detail": "all"}),
    "get_fields": _Operation("posthog_schema", {"object_name": "object"}, {"detail": "all"}),
    "query": _Operation("posthog_query", {"query": "query", "values": "values"}, {}),
}


class Meant(NamedTuple):
    """A call as one of the five tools takes it.

    Attributes:
        tool: The tool.
        arguments: Its arguments.
        reads_on: Name of the tool that the model is to give a cursor to.
    """

    tool: str
    arguments: dict[str, Any]
    reads_on: str


def resolve(name: str, arguments: dict[str, Any]) -> Meant:
    """Return what a call means.

    Args:
        name: Name of a tool.
        arguments: Arguments that fit its schema.

    Raises:
        ArgumentError: they do not fit together.
    """
    meant = _resolved(name, arguments)
    if "cursor" in meant.arguments:
        if odd := [key for key in meant.arguments if key not in ("cursor", "max_rows")]:
            raise ArgumentError(f"cursor reads on in a result that is kept: leave out {', '.join(odd)}")
    elif meant.tool == "posthog_query" and "query" not in meant.arguments:
        raise ArgumentError("query is missing: give a SELECT, or the cursor of an earlier answer")
    return meant


def _resolved(name: str, arguments: dict[str, Any]) -> Meant:
    if name != SIMPLE_TOOL.name:
        return Meant(name, arguments, name if name == "posthog_schema" else "posthog_query")
    given = {key: value for key, value in arguments.items() if key != "operation"}
    if "cursor" in given:
        return Meant("posthog_query", given, name)
    operation = arguments["operation"]
    tool, names, always = _OPERATIONS[operation]
    if odd := [key for key in given if key not in names]:
        raise ArgumentError(f"{operation} takes no {', '.join(odd)}")
    if operation == "get_fields" and not given:
        raise ArgumentError("object_name is missing: get_fields needs the name of a table")
    return Meant(tool, {**always, **{names[key]: value for key, value in given.items()}}, name)
