"""Which events an action matches. Source of the rules: ``posthog/hogql/property.py`` (``action_to_expr``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .conditions import TRUE, Condition, Scope, bound, joined
from .elements import compared, element_condition
from .property_filters import condition
from .schema import Action

__all__ = ["action_condition"]

_STEP_PARTS = ("tag_name", "text", "href", "selector")


def action_condition(action: Action, scope: Scope) -> Condition:
    """Return the condition on ``events`` that an action stands for: one of its steps holds; all, without any steps.

    Raises:
        HogQLError: A step says something that cannot be answered here.
    """
    return joined([_step(step, scope) for step in action.steps], "OR") if action.steps else TRUE


def _step(step: Mapping[str, Any], scope: Scope) -> Condition:
    parts = []
    if step.get("event"):
        parts.append(bound(scope, lambda v: f"event = {v}", str(step["event"])))
    if step.get("url"):
        # PostHog's own default for addresses is "contains", by LIKE with its wildcards.
        matching = step.get("url_matching") or "contains"
        if matching == "contains":
            parts.append(bound(scope, lambda v: f"properties.$current_url LIKE {v}", f"%{step['url']}%"))
        else:
            parts.append(compared("properties.$current_url", matching, step["url"], scope))
    if step.get("event") == "$autocapture":
        for key in _STEP_PARTS:
            if step.get(key):
                operator = step.get(f"{key}_matching") or "exact"
                operator = "icontains" if operator == "contains" else operator
                parts.append(element_condition(key, operator, [step[key]], scope))
    if step.get("properties"):
        parts.append(condition(step["properties"], scope))
    return joined(parts)
