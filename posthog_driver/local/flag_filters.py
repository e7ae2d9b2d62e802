"""What the ``filters`` of a feature flag can be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import errors

__all__ = ["OPERATORS", "check", "check_key"]

_OPERATORS = """
exact is_not icontains not_icontains icontains_multi not_icontains_multi starts_with not_starts_with ends_with
not_ends_with regex not_regex is_set is_not_set gt gte lt lte between not_between in not_in is_date_exact is_date_before
is_date_after flag_evaluates_to semver_eq semver_neq semver_gt semver_gte semver_lt semver_lte semver_tilde semver_caret
semver_wildcard
"""
OPERATORS = frozenset(_OPERATORS.split())
"""The operators that a condition of a flag can have."""

_TYPES = ("person", "person_metadata", "group", "cohort", "flag")


def check_key(key: str) -> None:
    """Refuse the key of a flag that is no plain name.

    Raises:
        ApiError: 400, in PostHog's words.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", key):
        detail = "Only letters, numbers, hyphens (-) & underscores (_) are allowed."
        raise errors.validation(detail, "invalid_key", "key")


def check(filters: Mapping[str, Any]) -> None:
    """Refuse filters that cannot be evaluated.

    Raises:
        ApiError: 400 that says why.
    """
    for name in ("groups", "super_groups"):
        for group in _list(filters, name):
            _check_group(group)
    for holdout in _list(filters, "holdout_groups"):
        _check_group(holdout)
    if filters.get("holdout") is not None:
        _check_holdout(filters["holdout"])
    index = filters.get("aggregation_group_type_index")
    if index is not None and (type(index) is not int or not 0 <= index <= 4):
        raise _wrong("aggregation_group_type_index is a number from 0 to 4.")
    variants = _list(filters.get("multivariate") or {}, "variants")
    for variant in variants:
        if not isinstance(variant, Mapping) or not isinstance(variant.get("key"), str):
            raise _wrong("A variant needs a key.")
        _check_share(variant.get("rollout_percentage"))
    if variants and abs(sum(variant["rollout_percentage"] or 0 for variant in variants) - 100) > 0.01:
        raise _wrong("Invalid variant definitions: Variant rollout percentages must sum to 100.")
    known = {variant["key"] for variant in variants} if variants else {"true"}
    payloads = filters.get("payloads") or {}
    if not isinstance(payloads, Mapping):
        raise _wrong("payloads must be a dictionary.")
    if not set(payloads) <= known:
        keys = "variant keys" if variants else 'a "true" key'
        raise _wrong(f"Payload keys must match {keys} of the flag.")


def _list(filters: Any, name: str) -> list[Any]:
    found = (filters.get(name) or []) if isinstance(filters, Mapping) else filters
    if not isinstance(found, list):
        raise _wrong(f"{name} must be a list.")
    return found


def _check_group(group: Any) -> None:
    if not isinstance(group, Mapping):
        raise _wrong("A condition set must be an object.")
    _check_share(group.get("rollout_percentage"))
    for entry in _list(group, "properties"):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("key"), str):
            raise _wrong("A property filter needs a key.")
        if (kind := entry.get("type") or "person") not in _TYPES:
            raise _wrong(f"Feature flags have no filters of type {kind!r}; there are {', '.join(_TYPES)}.")
        if (operator := entry.get("operator") or "exact") not in OPERATORS:
            raise _wrong(f"Feature flags have no operator {operator!r}.")


def _check_holdout(holdout: Any) -> None:
    if not isinstance(holdout, Mapping) or holdout.get("id") is None:
        raise _wrong("A holdout needs an id.")
    _check_share(holdout.get("exclusion_percentage"))


def _check_share(share: Any) -> None:
    if share is not None and (isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 100):
        raise _wrong("A rollout_percentage is a number from 0 to 100.")


def _wrong(detail: str) -> errors.ApiError:
    return errors.validation(detail, "invalid_input", "filters")
