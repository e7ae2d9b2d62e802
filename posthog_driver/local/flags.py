"""Evaluation of feature flags as PostHog's ``/flags`` does it: its hash gives everybody the same variant."""

from __future__ import annotations

import hashlib
import json
import operator
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Subject", "answer", "evaluate"]

_SCALE = float(0xFFFFFFFFFFFFFFF)
_NUMBER_TESTS: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_OPPOSITES = {"is_not": "exact", "is_not_set": "is_set", "not_icontains": "icontains", "not_regex": "regex"}


class UnknownConditionError(Exception):
    """A condition that cannot be decided here; the flag is reported as failed instead of as off."""


@dataclass(frozen=True)
class Subject:
    """Whom a flag is evaluated for."""

    distinct_id: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    group_properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def rollout_hash(key: str, bucket: str, salt: str = "") -> float:
    """Return where in 0 to 1 an identifier falls: 15 hex digits of SHA-1 over ``key.bucket`` and salt."""
    digest = hashlib.sha1(f"{key}.{bucket}{salt}".encode(), usedforsecurity=False).hexdigest()
    return int(digest[:15], 16) / _SCALE


def answer(
    body: Mapping[str, Any],
    all_flags: Sequence[Mapping[str, Any]],
    group_types: Sequence[str],
    properties_of: Callable[[str], Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the answer to a request of ``/flags/?v=2``.

    Args:
        body: The request.
        all_flags: The project's flags; those that are not active are left out.
        group_types: Names of the group types, the position is the index.
        properties_of: Finds the stored properties of a distinct_id; those that the request gives win.
    """
    wanted = body.get("flag_keys_to_evaluate")
    asked = [flag for flag in all_flags if flag["active"] and (wanted is None or flag["key"] in wanted)]
    distinct_id = str(body["distinct_id"])
    subject = Subject(
        distinct_id,
        {**properties_of(distinct_id), **_dict(body.get("person_properties"))},
        _dict(body.get("groups")),
        _dict(body.get("group_properties")),
    )
    evaluated = {flag["key"]: evaluate(flag, subject, group_types) for flag in asked}
    return {
        "flags": evaluated,
        "errorsWhileComputingFlags": any(entry.get("failed") for entry in evaluated.values()),
        "requestId": str(uuid.uuid4()),
    }


def evaluate(flag: Mapping[str, Any], subject: Subject, group_types: Sequence[str] = ()) -> dict[str, Any]:
    """Return one entry of the ``flags`` of a v2 answer."""
    filters = flag.get("filters") or {}
    off = {"key": flag["key"], "enabled": False, "variant": None, "metadata": _metadata(flag, None)}
    try:
        bucket, properties = _bucket(filters, subject, group_types)
        if bucket is None:
            return {**off, "reason": _reason("no_group_type", None, "No matching group type")}
        reason, index = _matching_condition(flag["key"], filters, bucket, properties)
    except UnknownConditionError as problem:
        return {**off, "failed": True, "reason": _reason("unknown", None, str(problem))}
    if reason != "condition_match":
        words = {"out_of_rollout_bound": "Out of rollout bound"}.get(reason, "No matching condition set")
        return {**off, "reason": _reason(reason, index, words)}
    variant = _variant(flag["key"], filters, bucket, filters["groups"][index].get("variant"))
    return {
        **off,
        "enabled": True,
        "variant": variant,
        "reason": _reason(reason, index, f"Matched condition set {index + 1}"),
        "metadata": _metadata(flag, variant or "true"),
    }


def _bucket(
    filters: Mapping[str, Any], subject: Subject, group_types: Sequence[str]
) -> tuple[str | None, Mapping[str, Any]]:
    """Return what is hashed and whose properties count: the person, or the group of a group flag."""
    index = filters.get("aggregation_group_type_index")
    if index is None:
        return subject.distinct_id, subject.properties
    name = group_types[index] if index < len(group_types) else ""
    return subject.groups.get(name), subject.group_properties.get(name) or {}


def _matching_condition(
    key: str, filters: Mapping[str, Any], bucket: str, properties: Mapping[str, Any]
) -> tuple[str, int]:
    """Return the reason and the number of the first condition that matches, or of the best miss."""
    missed = ("no_condition_match", 0)
    for index, group in enumerate(filters.get("groups") or ()):
        if all(_holds(entry, properties) for entry in group.get("properties") or ()):
            percentage = group.get("rollout_percentage")
            if percentage is None or rollout_hash(key, bucket) <= percentage / 100:
                return "condition_match", index
            missed = ("out_of_rollout_bound", index)
    return missed


def _variant(key: str, filters: Mapping[str, Any], bucket: str, override: str | None) -> str | None:
    variants = (filters.get("multivariate") or {}).get("variants") or ()
    if override in [variant["key"] for variant in variants]:
        return override
    position, upper = rollout_hash(key, bucket, "variant"), 0.0
    for variant in variants:
        upper += variant["rollout_percentage"] / 100
        if position < upper:
            return str(variant["key"])
    return None


def _holds(entry: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    if entry.get("type", "person") not in ("person", "group"):
        raise UnknownConditionError(f"conditions of type {entry.get('type')!r} are not evaluated here")
    test, wanted = entry.get("operator") or "exact", entry.get("value")
    found = properties.get(entry["key"])
    if test in _OPPOSITES:
        return not _compare(_OPPOSITES[test], found, wanted)
    return _compare(test, found, wanted)


def _compare(test: str, found: Any, wanted: Any) -> bool:
    if test == "is_set":
        return found is not None
    values = [_text(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
    if test == "exact":
        return found is not None and _text(found).casefold() in [value.casefold() for value in values]
    if test == "icontains":
        return found is not None and any(value.casefold() in _text(found).casefold() for value in values)
    if test == "regex":
        return found is not None and _searches(values[0], _text(found))
    if test in _NUMBER_TESTS:
        return _compare_numbers(test, found, wanted)
    raise UnknownConditionError(f"the operator {test!r} is not evaluated here")


def _searches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _compare_numbers(test: str, found: Any, wanted: Any) -> bool:
    try:
        return _NUMBER_TESTS[test](float(found), float(wanted))
    except (TypeError, ValueError):
        return False


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(code: str, index: int | None, description: str) -> dict[str, Any]:
    return {"code": code, "condition_index": index, "description": description}


def _metadata(flag: Mapping[str, Any], matched: str | None) -> dict[str, Any]:
    payload = ((flag.get("filters") or {}).get("payloads") or {}).get(matched)
    return {
        "id": flag["id"],
        "version": flag.get("version") or 1,
        "payload": payload if payload is None or isinstance(payload, str) else json.dumps(payload),
        "description": flag.get("name") or None,
    }
