"""Evaluation of feature flags as PostHog's ``/flags`` does it: its hash gives everybody the same variant.

Source of the rules: ``rust/feature-flags/src/flags/flag_matching.rs``. A flag is decided in this order: holdout, early
access (``super_groups``), then its condition sets, those that name a variant first.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .flag_conditions import property_holds

__all__ = ["Evaluation", "Subject", "answer", "metadata_of", "rollout_hash"]

_SCALE = float(0xFFFFFFFFFFFFFFF)
_WORDS = {
    "no_condition_match": "No matching condition set",
    "out_of_rollout_bound": "Out of rollout bound",
    "no_group_type": "No group type",
    "super_condition_value": "Super condition value",
    "holdout_condition_value": "Holdout condition value",
    "missing_dependency": "Flag cannot be evaluated due to missing dependency",
    "flag_disabled": "Feature flag is disabled",
}
_GROUPS_MISSING = "No matching condition set (group conditions were not evaluated because no group type was provided)"
_RANK = {"out_of_rollout_bound": 3, "no_condition_match": 2, "no_group_type": 1}
Flag = Mapping[str, Any]


def _nobody(cohort: int) -> bool:
    return False


class MissingCohortError(Exception):
    """A flag asks for a cohort that is not there: it fails, and is not merely off."""


@dataclass(frozen=True)
class Subject:
    """Whom a flag is evaluated for.

    Attributes:
        distinct_id: The person.
        properties: Those of the person.
        groups: Keys by group type.
        group_properties: Properties by group type.
        device_id: The device, for flags that are decided for each device.
        anonymous_id: The distinct_id before the person was identified.
        in_static: Whether the person is in a static cohort.
    """

    distinct_id: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Any] = field(default_factory=dict)
    group_properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    device_id: str = ""
    anonymous_id: str = ""
    in_static: Callable[[int], bool] = _nobody


def rollout_hash(key: str, bucket: str, salt: str = "") -> float:
    """Return where in 0 to 1 an identifier falls: 15 hex digits of SHA-1 over ``key.bucket`` and salt."""
    return _hash(f"{key}.{bucket}{salt}")


def _hash(text: str) -> float:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:15], 16) / _SCALE


class Evaluation:
    """Evaluates flags for one subject; each flag once, those that it depends on first.

    Args:
        flags: All flags of the project that are not deleted.
        subject: For whom.
        group_types: Names of the group types, the position is the index.
        cohorts: The project's cohorts.
        now: For relative dates.
    """

    def __init__(
        self,
        flags: Iterable[Flag],
        subject: Subject,
        group_types: Sequence[str] = (),
        cohorts: Iterable[Mapping[str, Any]] = (),
        now: datetime | None = None,
    ) -> None:
        self._flags = {str(flag["id"]): flag for flag in flags}
        self._subject = subject
        self._group_types = group_types
        self._cohorts = {int(cohort["id"]): cohort for cohort in cohorts}
        self._now = now or datetime.now(timezone.utc)
        self._done: dict[str, dict[str, Any]] = {}
        self._open: set[str] = set()

    def of(self, flag: Flag) -> dict[str, Any]:
        """Return one entry of the ``flags`` of a v2 answer."""
        id = str(flag["id"])
        if id not in self._done:
            self._open.add(id)
            try:
                self._done[id] = self._evaluated(flag)
            except MissingCohortError as problem:
                reason = {"code": "dependency_not_found_cohort", "condition_index": None, "description": str(problem)}
                self._done[id] = {**_entry(flag, False, None, "flag_disabled"), "failed": True, "reason": reason}
            self._open.discard(id)
        return self._done[id]

    def _evaluated(self, flag: Flag) -> dict[str, Any]:
        filters = flag.get("filters") or {}
        if not flag.get("active", True):
            return _entry(flag, False, None, "flag_disabled")
        if self._lacks_dependency(filters):
            return _entry(flag, False, None, "missing_dependency")
        if holdout := self._holdout(flag, filters):
            return _entry(flag, True, holdout, "holdout_condition_value")
        if (early := self._early_access(flag, filters)) is not None:
            return _entry(flag, early, None, "super_condition_value", 0)
        return self._by_conditions(flag, filters)

    def _by_conditions(self, flag: Flag, filters: Mapping[str, Any]) -> dict[str, Any]:
        best, best_index, has_skipped = "no_condition_match", None, False
        sets = list(enumerate(filters.get("groups") or ()))
        for index, group in sorted(sets, key=lambda numbered: not numbered[1].get("variant")):
            aggregation = group.get("aggregation_group_type_index", filters.get("aggregation_group_type_index"))
            bucket = self._bucket(flag, aggregation)
            if not bucket:
                reason = "no_group_type" if aggregation is not None else "out_of_rollout_bound"
                has_skipped = has_skipped or aggregation is not None
            elif not self._all_hold(group, aggregation):
                reason = "no_condition_match"
            elif _is_in(_share(group), rollout_hash(flag["key"], bucket)):
                variant = _variant(flag["key"], filters, bucket, group.get("variant"))
                return _entry(flag, True, variant, "condition_match", index)
            else:
                reason = "out_of_rollout_bound"
            if best_index is None or _RANK[reason] >= _RANK[best]:
                best, best_index = reason, index
        entry = _entry(flag, False, None, best, best_index)
        if best == "no_condition_match" and has_skipped:
            entry["reason"]["description"] = _GROUPS_MISSING
        return entry

    def _bucket(self, flag: Flag, aggregation: int | None) -> str:
        """Return what is hashed: the person or the device, or the group of a group condition; empty for none."""
        if aggregation is not None:
            key = self._subject.groups.get(self._type_name(aggregation))
            return str(key) if isinstance(key, (str, int, float)) and not isinstance(key, bool) else ""
        if flag.get("bucketing_identifier") == "device_id":
            return self._subject.device_id
        if flag.get("ensure_experience_continuity") and self._subject.anonymous_id:
            return self._subject.anonymous_id
        return self._subject.distinct_id

    def _type_name(self, index: int) -> str:
        return self._group_types[index] if 0 <= index < len(self._group_types) else ""

    def _holdout(self, flag: Flag, filters: Mapping[str, Any]) -> str | None:
        """Return the variant of somebody who is held out, None for anybody else."""
        bucket = self._bucket(flag, filters.get("aggregation_group_type_index"))
        if isinstance(held := filters.get("holdout"), Mapping):
            is_in = _is_in(held.get("exclusion_percentage", 100), _hash(f"holdout-{bucket}"))
            return f"holdout-{held.get('id')}" if is_in else None
        for group in filters.get("holdout_groups") or ():
            if _is_in(_share(group), _hash(f"holdout-{bucket}")):
                return str(group.get("variant") or "holdout")
        return None

    def _early_access(self, flag: Flag, filters: Mapping[str, Any]) -> bool | None:
        """Return whether somebody enrolled; None when they said nothing."""
        for group in (filters.get("super_groups") or ())[:1]:
            names = [entry["key"] for entry in group.get("properties") or ()]
            if any(name in self._subject.properties for name in names):
                bucket = self._bucket(flag, None)
                return self._all_hold(group, None) and _is_in(_share(group), rollout_hash(flag["key"], bucket))
        return None

    # --------------------------------------------------------------------------------------------- conditions

    def _all_hold(self, group: Mapping[str, Any], aggregation: int | None) -> bool:
        return all(self._holds(entry, aggregation) for entry in group.get("properties") or ())

    def _holds(self, entry: Mapping[str, Any], aggregation: int | None) -> bool:
        kind = entry.get("type") or ("group" if aggregation is not None else "person")
        if kind == "flag":
            return _is_value(self.of(self._flags[str(entry["key"])]), entry.get("value"))
        if kind == "cohort":
            is_in = self._in_cohort(entry.get("value"))
            return not is_in if entry.get("operator") == "not_in" or entry.get("negation") else is_in
        if kind == "group":
            name = self._type_name(entry.get("group_type_index", aggregation) or 0)
            return property_holds(entry, self._subject.group_properties.get(name) or {}, self._now)
        if kind == "person_metadata":
            return property_holds({**entry, "key": _METADATA + entry["key"]}, self._subject.properties, self._now)
        return property_holds(entry, _with_initial(entry["key"], self._subject.properties), self._now)

    def _in_cohort(self, id: Any, inside: frozenset[int] = frozenset()) -> bool:
        number = int(id) if str(id).isdigit() else -1
        cohort = self._cohorts.get(number)
        if cohort is None:
            raise MissingCohortError(f"Dependency of type Cohort with id {id} not found")
        if number in inside:
            return False
        if cohort.get("is_static"):
            return self._subject.in_static(number)
        return self._fits((cohort.get("filters") or {}).get("properties") or {}, inside | {number})

    def _fits(self, filters: Mapping[str, Any], inside: frozenset[int]) -> bool:
        """Tell whether the person fulfils filters of a cohort; what somebody did is not known here, as in PostHog."""
        if isinstance(values := filters.get("values"), list):
            found = [self._fits(entry, inside) for entry in values]
            return any(found) if str(filters.get("type")).upper() == "OR" else all(found)
        kind = filters.get("type") or "person"
        if kind == "cohort":
            holds = self._in_cohort(filters.get("value"), inside)
        elif kind == "person" and isinstance(filters.get("key"), str):
            holds = property_holds(filters, _with_initial(filters["key"], self._subject.properties), self._now)
        else:
            return False
        return not holds if filters.get("negation") else holds

    def _lacks_dependency(self, filters: Mapping[str, Any]) -> bool:
        """Tell whether a flag depends on one that is not there, or on itself."""
        for name in _dependencies(filters):
            flag = self._flags.get(name)
            if flag is None or name in self._open or self.of(flag)["reason"]["code"] == "missing_dependency":
                return True
        return False


_METADATA = "person_metadata:"


def metadata_of(created_at: Any) -> dict[str, Any]:
    """Return the properties that stand for what is known of a person beside its properties."""
    return {f"{_METADATA}created_at": created_at}


def _dependencies(filters: Mapping[str, Any]) -> list[str]:
    groups = [*(filters.get("groups") or ()), *(filters.get("super_groups") or ())]
    entries = [entry for group in groups for entry in group.get("properties") or ()]
    return [str(entry["key"]) for entry in entries if entry.get("type") == "flag"]


def _with_initial(name: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return properties in which ``$initial_x`` is there if ``x`` or ``$x`` is."""
    if name in properties or not name.startswith("$initial_"):
        return properties
    rest = name.removeprefix("$initial_")
    found = next((key for key in (f"${rest}", rest) if key in properties), None)
    return properties if found is None else {**properties, name: properties[found]}


def _is_value(entry: Mapping[str, Any], wanted: Any) -> bool:
    """Tell whether a flag that another one depends on came out as it must."""
    if isinstance(wanted, bool):
        return bool(entry["enabled"]) == wanted
    return entry["variant"] is not None and entry["variant"] == wanted


def _share(group: Mapping[str, Any]) -> float:
    share = group.get("rollout_percentage")
    return 100.0 if share is None else float(share)


def _is_in(percentage: float, position: float) -> bool:
    return percentage >= 100 or position <= percentage / 100


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


def _entry(flag: Flag, enabled: bool, variant: str | None, reason: str, index: int | None = None) -> dict[str, Any]:
    words = f"Matched condition set {(index or 0) + 1}" if reason == "condition_match" else _WORDS[reason]
    payload = ((flag.get("filters") or {}).get("payloads") or {}).get(variant or "true") if enabled else None
    return {
        "key": flag["key"],
        "enabled": enabled,
        "variant": variant,
        "reason": {"code": reason, "condition_index": index, "description": words},
        "metadata": {
            "id": flag["id"],
            "version": flag.get("version") or 1,
            "payload": payload if payload is None or isinstance(payload, str) else json.dumps(payload),
            "description": flag.get("name") or None,
            "has_experiment": bool(flag.get("experiment_set")),
        },
    }


def answer(
    evaluation: Evaluation,
    all_flags: Sequence[Flag],
    *,
    keys: Sequence[str] | None = None,
    runtime: str = "",
    contexts: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the answer to a request of ``/flags/?v=2``.

    Args:
        evaluation: Evaluates the flags.
        all_flags: The project's flags; those that are not active are left out.
        keys: Only these; None for all.
        runtime: ``server`` or ``client``: flags for the other one are left out; empty: those for only one are.
        contexts: Flags for other contexts are left out, unless there are none of these.
    """

    def is_asked(flag: Flag) -> bool:
        own, tags = flag.get("evaluation_runtime") or "all", flag.get("evaluation_contexts") or ()
        return (
            bool(flag["active"])
            and (keys is None or flag["key"] in keys)
            and own in ("all", runtime)
            and (not tags or not contexts or bool(set(tags) & set(contexts)))
        )

    evaluated = {flag["key"]: evaluation.of(flag) for flag in all_flags if is_asked(flag)}
    return {
        "flags": evaluated,
        "errorsWhileComputingFlags": any(entry.get("failed") for entry in evaluated.values()),
        "requestId": str(uuid.uuid4()),
    }
