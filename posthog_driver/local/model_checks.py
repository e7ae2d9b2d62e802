"""Checks a JSON value against the declarations of `posthog_driver.local.model_kinds`, in the words of pydantic.

`compiled` makes a check of a type's text once; a check yields a `Problem` for everything that does not fit.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from .model_kinds import ALIASES, ELSEWHERE, ENUMS, MODELS

__all__ = [
    "MAX_DEPTH",
    "MAX_PROBLEMS",
    "Check",
    "Field",
    "Location",
    "Problem",
    "alternatives",
    "compiled",
    "fields_of",
    "is_too_deep",
    "values_of",
]

MAX_DEPTH = 100
"""Levels of lists and objects in a body; pydantic gives up at a recursion of 255."""

MAX_INT = 2**31 - 1
"""Largest whole number of a field; all of them are counts, places or ids."""

MAX_PROBLEMS = 50
"""Problems of one body that are reported; a list of a million wrong entries has a million."""

Location = tuple[str, ...]
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxlong = 3, 5, 5, 100, 40


class Problem(NamedTuple):
    """What does not fit: where, why, pydantic's name for it, and the value."""

    location: Location
    message: str
    kind: str
    value: Any

    def __str__(self) -> str:
        shown = _SHORT.repr(self.value)
        shown = shown if len(shown) <= 100 else f"{shown[:50]}...{shown[-47:]}"
        place = ".".join(part[:100] for part in self.location)
        return (
            f"{place}\n  {self.message} [type={self.kind}, input_value={shown}, input_type={type(self.value).__name__}]"
        )


Check = Callable[[Location, Any], Iterator[Problem]]


def is_too_deep(value: Any) -> bool:
    """Tell whether a JSON value has more than `MAX_DEPTH` levels; never recursive."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for entry in level
            if isinstance(entry, dict | list)
            for inner in (entry.values() if isinstance(entry, dict) else entry)
        ]
        if not level:
            return False
    return True


# ------------------------------------------------------------------------------------------------------ plain values


def _typed(message: str, kind: str, *types: type) -> Check:
    def check(location: Location, value: Any) -> Iterator[Problem]:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            yield Problem(location, message, kind, value)

    return check


def _int(location: Location, value: Any) -> Iterator[Problem]:
    if isinstance(value, float) and not value.is_integer():
        message = "Input should be a valid integer, got a number with a fractional part"
        yield Problem(location, message, "int_from_float", value)
    elif isinstance(value, bool) or not isinstance(value, int):
        yield Problem(location, "Input should be a valid integer", "int_type", value)
    elif value > MAX_INT:
        yield Problem(location, f"Input should be less than or equal to {MAX_INT}", "less_than_equal", value)
    elif value < -MAX_INT:
        yield Problem(location, f"Input should be greater than or equal to {-MAX_INT}", "greater_than_equal", value)


def _anything(location: Location, value: Any) -> Iterator[Problem]:
    yield from ()


_SCALARS: Mapping[str, tuple[str, Check]] = {
    "text": ("str", _typed("Input should be a valid string", "string_type", str)),
    "bool": ("bool", _typed("Input should be a valid boolean", "bool_type", bool)),
    "int": ("int", _int),
    "number": ("float", _typed("Input should be a valid number", "float_type", int, float)),
    "dict": ("dict", _typed("Input should be a valid dictionary", "dict_type", dict)),
    "null": ("none", _typed("Input should be None", "none_required", type(None))),
    "any": ("any", _anything),
}
"""pydantic's label and the check of each plain type."""


def _one_of(options: tuple[str | int, ...], kind: str) -> Check:
    names = [repr(option) for option in options]
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]

    def check(location: Location, value: Any) -> Iterator[Problem]:
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in options:
            yield Problem(location, f"Input should be {listed}", kind, value)

    return check


def values_of(enumeration: str) -> tuple[str | int, ...]:
    """The values of an enumeration."""
    return tuple(int(word) if word.isdigit() else word for word in ENUMS[enumeration].split())


def _list_of(inner: Check) -> Check:
    def check(location: Location, value: Any) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield Problem(location, "Input should be a valid list", "list_type", value)
            return
        for index, entry in enumerate(value):
            yield from inner((*location, str(index)), entry)

    return check


def _map_of(inner: Check) -> Check:
    def check(location: Location, value: Any) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield Problem(location, "Input should be a valid dictionary", "dict_type", value)
            return
        for key, entry in value.items():
            yield from inner((*location, key), entry)

    return check


# ------------------------------------------------------------------------------------------------ models and unions


class Field(NamedTuple):
    """A declared field: the text of its type, and whether it must be there."""

    type: str
    required: bool


_ABSENT = Field("", False)


@cache
def fields_of(model: str) -> Mapping[str, Field]:
    """The fields of a model by name."""
    found = {}
    for word in MODELS[model].split():
        name, _, type_ = word.partition(":")
        found[name.rstrip("*")] = Field(type_, name.endswith("*"))
    return found


def _model(name: str) -> Check:
    """Check an object: no other keys, the required ones there. The checks of its fields are compiled when needed."""

    def check(location: Location, value: Any) -> Iterator[Problem]:
        if not isinstance(value, dict):
            message = f"Input should be a valid dictionary or instance of {name}"
            yield Problem(location, message, "model_type", value)
            return
        fields = fields_of(name)
        for key, field in fields.items():
            if field.required and key not in value:
                yield Problem((*location, key), "Field required", "missing", value)
        for key, entry in value.items():
            if key in fields:
                yield from compiled(fields[key].type)((*location, key), entry)
            elif key == "response" and "kind" in fields:
                message = f"The embedded server does not have response of {name}; it is what PostHog fills in."
                yield Problem((*location, key), message, "elsewhere", entry)
            else:
                yield Problem((*location, key), "Extra inputs are not permitted", "extra_forbidden", entry)

    return check


def _tags(model: str, key: str) -> tuple[str | int, ...]:
    """The values of a model's discriminating field; none if it has no such field."""
    field = fields_of(model).get(key)
    if field is None:
        return ()
    return (field.type[1:-1],) if field.type.startswith("'") else values_of(field.type) if field.type in ENUMS else ()


def _tagged(models: tuple[str, ...], elsewhere: frozenset[str]) -> Check:
    """Check an object against the model that its ``kind`` or ``type`` names, or else against the one that fits best."""
    key = "kind" if elsewhere or _tags(models[0], "kind") else "type"

    def check(location: Location, value: Any) -> Iterator[Problem]:
        tag = value.get(key)
        if isinstance(tag, str) and tag in elsewhere:
            yield Problem((*location, tag), f"The embedded server does not have {tag}.", "elsewhere", value)
            return
        if key in value:
            fitting = [model for model in models if tag in _tags(model, key)]
        else:
            fitting = [model for model in models if not fields_of(model).get(key, _ABSENT).required]
        if fitting:
            yield from min((_some(compiled(model), location, value) for model in fitting), key=len)
        elif key in value:
            tags = ", ".join(repr(tag) for model in models for tag in _tags(model, key))
            message = (
                f"Input tag {_SHORT.repr(tag)} found using '{key}' does not match any of the expected tags: {tags}"
            )
            yield Problem(location, message, "union_tag_invalid", value)
        else:
            message = f"Unable to extract tag using discriminator '{key}'"
            yield Problem(location, message, "union_tag_not_found", value)

    return check


def _some(check: Check, location: Location, value: Any) -> list[Problem]:
    """The first problems of a value, never so many that they are a burden of their own."""
    return list(islice(check(location, value), MAX_PROBLEMS))


def _union(options: tuple[str, ...]) -> Check:
    """Check alternatives: null, an object against models, a list against lists, all else against what is left."""
    models = tuple(option for option in options if option in MODELS)
    elsewhere = frozenset(options) & ELSEWHERE
    others = [option for option in options if option not in {*models, *elsewhere, "null"}]
    lists = [option for option in others if option.startswith("[")]
    of_object = _tagged(models, elsewhere) if models else None

    def check(location: Location, value: Any) -> Iterator[Problem]:
        if value is None and "null" in options:
            return
        if of_object and (isinstance(value, dict) or not others):
            yield from of_object(location, value) if isinstance(value, dict) else compiled(models[0])(location, value)
            return
        tried = lists if lists and isinstance(value, list) else others
        found = [_some(compiled(option), location, value) for option in tried]
        if all(found):
            for option, problems in zip(tried, found, strict=True):
                # pydantic names the alternatives only where there are several.
                label = () if len(tried) == 1 else (_label(option),)
                yield from (
                    problem._replace(location=(*location, *label, *problem.location[len(location) :]))
                    for problem in problems
                )

    return check


def _label(option: str) -> str:
    return f"list[{_label(option[1:-1])}]" if option.startswith("[") else _SCALARS.get(option, (option,))[0]


# ------------------------------------------------------------------------------------------------ the types' grammar


def alternatives(text: str) -> tuple[str, ...]:
    """The alternatives of a type's text, aliases and the question mark written out."""
    if text.endswith("?"):
        text = f"{text[:-1]}|null"
    options = re.split(r"\|(?![^\[{]*[\]}])", text)
    if len(options) == 1 and text not in ALIASES:
        return (text,)
    return tuple(inner for option in options for inner in alternatives(ALIASES.get(option, option)))


@cache
def compiled(text: str) -> Check:
    """Make the check of a type's text."""
    options = alternatives(text)
    if len(options) > 1:
        return _union(options)
    if text in _SCALARS:
        return _SCALARS[text][1]
    if text in ENUMS:
        return _one_of(values_of(text), "enum")
    if text in MODELS:
        return _model(text)
    if text.startswith("["):
        return _list_of(compiled(text[1:-1]))
    if text.startswith("{"):
        return _map_of(compiled(text[1:-1]))
    if not text.startswith("'"):
        raise KeyError(f"no type or model {text}")
    return _one_of((text.strip("'"),), "literal_error")
