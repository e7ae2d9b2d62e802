"""Arguments against the schema of their tool: nothing unknown passes, and each mistake is answered with what would do.

A key that is silently ignored looks like success to a model. So everything that is wrong is named at once, with the
nearest thing that is right.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from posthog_driver.exceptions import ValidationError
from posthog_driver.tools.definitions import is_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from posthog_driver.tools.definitions import Tool

__all__ = ["MOST_TEXT", "ArgumentError", "check", "nearest"]

MOST_TEXT = 100_000
"""Characters of one argument; PostHog's own parser gives up long before."""

_SHOWN = 60
_MOST_PROBLEMS = 5
_DEPTH = 5
# What models have learned to call these elsewhere, in PostHog's own interface above all.
_MEANT = {
    "breakdown": "by",
    "code": "query",
    "columns": "object",
    "compare_to_previous": "compare",
    "date_from": "since",
    "date_to": "until",
    "dry_run": "check_only",
    "end_date": "until",
    "filter": "where",
    "filters": "where",
    "from": "since",
    "hogql": "query",
    "interval": "every",
    "limit": "max_rows",
    "math": "measure",
    "math_property": "of",
    "page": "cursor",
    "parameters": "values",
    "params": "values",
    "properties": "where",
    "series": "events",
    "sql": "query",
    "start_date": "since",
    "table": "object",
    "table_name": "object",
    "to": "until",
    "unique": "users",
    "window": "within",
}
_TYPES: dict[str, tuple[type, str]] = {
    "string": (str, "text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "array": (list, "a list"),
    "object": (dict, "an object"),
}


class ArgumentError(ValidationError):
    """Arguments that do not fit; the message names every problem with what would do instead."""


def check(tool: Tool, arguments: object) -> dict[str, Any]:
    """Return the arguments as the tool takes them: without those left out as null, maps as dicts.

    A map may also come as the list of ``{name, value}`` that the strict variant of the schema asks for.

    Args:
        tool: The tool they are for.
        arguments: What the model sent.

    Raises:
        ArgumentError: they do not fit the tool's schema.
    """
    if not isinstance(arguments, Mapping):
        raise ArgumentError(f"the arguments of {tool.name} are an object, not {_kind(arguments)}")
    problems: list[str] = []
    checked = _object(tool.input_schema, dict(arguments), "", problems)
    if problems:
        more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise ArgumentError("; ".join(problems[:_MOST_PROBLEMS]) + more)
    return checked


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that was probably meant, or None."""
    names = {choice.lower(): choice for choice in choices}
    wanted = word[:_SHOWN].lower().strip()
    meant = _MEANT.get(wanted)
    if meant in names:
        return names[meant]
    found = difflib.get_close_matches(wanted, names, 1)
    return names[found[0]] if found else None


def _value(schema: Mapping[str, Any], value: Any, at: str, problems: list[str]) -> Any:
    if is_map(schema):
        return _map(value, at, problems)
    kind, wanted = _TYPES[schema["type"]]
    if schema["type"] == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON knows one kind of number
    if not _is_a(value, kind):
        problems.append(f"{at} must be {wanted}, not {_kind(value)}")
        return None
    if schema["type"] == "object":
        return _object(schema, value, f"{at}.", problems)
    if schema["type"] == "array":
        return _array(schema, value, at, problems)
    problems += _scalar_problems(schema, value, at)
    return value


def _object(schema: Mapping[str, Any], given: dict[Any, Any], path: str, problems: list[str]) -> dict[str, Any]:
    properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
    present = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in properties:
            problems.append(
                _unknown(str(name), path, [key for key in properties if key not in given], list(properties))
            )
    for name in schema["required"]:
        if name not in present:
            problems.append(f"{path}{name} is missing")
    return {
        name: _value(properties[name], value, f"{path}{name}", problems)
        for name, value in present.items()
        if name in properties
    }


def _unknown(name: str, path: str, free: Sequence[str], known: Sequence[str]) -> str:
    meant = nearest(name, free)
    advice = f"did you mean {path}{meant}?" if meant else f"there are {', '.join(known)}"
    return f"there is no argument {_shown(path + name)}, {advice}"


def _array(schema: Mapping[str, Any], items: list[Any], at: str, problems: list[str]) -> list[Any]:
    least, most = schema["minItems"], schema["maxItems"]
    if not least <= len(items) <= most:
        problems.append(f"{at} takes {least} to {most} items, not {len(items)}")
        return []
    return [_value(schema["items"], item, f"{at}[{number}]", problems) for number, item in enumerate(items)]


def _scalar_problems(schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        meant = nearest(value, schema["enum"])
        advice = f"did you mean {_shown(meant)}?" if meant else f"it is one of {', '.join(schema['enum'])}"
        yield f"{at} cannot be {_shown(value)}, {advice}"
    elif isinstance(value, str) and not value.strip():
        yield f"{at} is empty: give text, or leave it out"
    elif isinstance(value, str) and len(value) > MOST_TEXT:
        yield f"{at} has {len(value)} characters, {MOST_TEXT} are the most"
    elif "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        yield f"{at} is {schema['minimum']} to {schema['maximum']}, not {_shown(value)}"


# Maps ----------------------------------------------------------------------------------------------------------------


def _map(value: Any, at: str, problems: list[str]) -> dict[str, Any]:
    pairs = list(value.items()) if isinstance(value, dict) else _pairs(value)
    if pairs is None:
        problems.append(f'{at} must be an object such as {{"name": "value"}}, not {_kind(value)}')
        return {}
    result: dict[str, Any] = {}
    for name, inner in pairs:
        if not isinstance(name, str) or not name:
            problems.append(f"a name in {at} must be text")
        elif name in result:
            problems.append(f"{at} names {_shown(name)} twice")
        elif not _is_bindable(inner):
            problems.append(f"{at}.{_shown(name)} must be text, a number, a boolean, null, or a list of these")
        else:
            result[name] = inner
    return result


def _pairs(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the pairs of a list of ``{name, value}``, or None for anything else."""
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, dict) and item.keys() == {"name", "value"} for item in value):
        return None
    return [(item["name"], _from_json(item["value"])) for item in value]


def _from_json(value: Any) -> Any:
    """Return what a text says in JSON, or the text where it is none."""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        return value
    try:
        return json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are no JSON: then they are text


def _is_bindable(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < _DEPTH and all(_is_bindable(item, depth + 1) for item in value)
    if isinstance(value, str):
        return len(value) <= MOST_TEXT
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


# Words ---------------------------------------------------------------------------------------------------------------


def _is_a(value: object, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    for kind, words in _TYPES.values():
        if _is_a(value, kind):
            return f"{words} ({_shown(value)})" if isinstance(value, (str, bool, int)) else words
    return f"a number ({_shown(value)})" if isinstance(value, float) else "something else"


def _shown(value: Any) -> str:
    """Return a value on one line, in at most a few dozen characters."""
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a number of many digits"
    text = json.dumps(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
