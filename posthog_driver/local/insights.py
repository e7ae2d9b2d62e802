"""What insights, dashboards and experiments are beside their fields: results, tiles, flags."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from . import errors, flag_filters
from .entities import Entity, EntityStore
from .errors import ApiError
from .project import Project
from .wire import encode_json

__all__ = ["check", "create_early_access", "create_experiment", "place", "shown", "shown_dashboard"]

_COMPUTED = ("true", "1", "blocking", "force_blocking", "lazy_async", "async", "force_async")
_MODES = {"true": "force_blocking", "1": "force_blocking"}
_KEPT = ("false", "0", "force_cache", "")


# ---------------------------------------------------------------------------------------------------------- insights


def source_of(insight: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the query that gives an insight's result, None when it has none."""
    query = insight.get("query")
    if not isinstance(query, dict):
        return None
    source = query.get("source")
    return source if isinstance(source, dict) and query.get("kind") != "ActorsQuery" else query


def check(project: Project, body: Mapping[str, Any]) -> None:
    """Refuse dashboards of an insight that are not there, and a query that is none.

    Raises:
        ApiError: 400.
    """
    query = body.get("query")
    if query is not None and (not isinstance(query, dict) or not isinstance(query.get("kind"), str)):
        raise errors.validation("A query needs a kind.", attr="query")
    known = {dashboard["id"] for dashboard in project.store.all("dashboards")}
    listed = body.get("dashboards") or []
    for id in listed if isinstance(listed, list) else ():
        if id not in known:
            raise errors.validation(f'Invalid pk "{id}" - object does not exist.', "does_not_exist", "dashboards")


def shown(
    project: Project,
    insight: Entity,
    refresh: str,
    denied: frozenset[str] = frozenset(),
    dashboard: Mapping[str, Any] | None = None,
) -> Entity:
    """Return an insight with its result, computed if `refresh` says so, else as it was computed last.

    A result is for keys that may read the same system tables as the one it was computed for (`denied`), and on a
    dashboard it is for the dashboard's own dates, properties and variables.

    Raises:
        ApiError: 400 for a mode that is not known; what the query itself raises.
    """
    mode = refresh.lower()
    if mode not in (*_COMPUTED, *_KEPT):
        raise errors.validation(f'"{refresh}" is not a valid choice.', "invalid_choice", "refresh")
    source = source_of(insight)
    if source is None:
        return {**insight, "result": None, "last_refresh": None, "is_cached": False}
    overrides = _overrides(dashboard or {})
    identity = json.dumps([source, overrides, sorted(denied)], sort_keys=True)
    kept = project.results.get(identity)
    if mode in _COMPUTED:
        asked = {"query": source, "refresh": _MODES.get(mode, mode), **overrides}
        answer = project.queries.submit(asked, denied=denied)
        body = answer.body if isinstance(answer.body, dict) else json.loads(answer.encode()[1])
        if answer.status == 202 or "results" not in body:
            status = body.get("query_status")
            return {**insight, **_result(kept or {}), "query_status": status}
        project.results.put(identity, encode_json(body))
        kept = body
    return {**insight, **_result(kept or {})}


def _overrides(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    """What a dashboard changes in the queries of its insights, as fields of a request to ``/query/``."""
    filters, variables = dashboard.get("filters"), dashboard.get("variables")
    found = {"filters_override": filters, "variables_override": variables}
    return {name: value for name, value in found.items() if value}


def _result(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("columns", "types", "hasMore", "timezone", "cache_target_age", "next_allowed_client_refresh")
    own = {name: answer[name] for name in names if name in answer}
    last = {"last_refresh": answer.get("last_refresh"), "is_cached": bool(answer.get("is_cached"))}
    return {"result": answer.get("results"), **last, **own}


def place(store: EntityStore, insight: Entity) -> None:
    """Put an insight on the dashboards that it names, and take it off all others."""
    for dashboard in store.all("dashboards"):
        tiles = dashboard.get("tiles") or []
        is_there = any(_insight_id(tile) == insight["id"] for tile in tiles)
        is_wanted = dashboard["id"] in insight["dashboards"]
        if is_wanted and not is_there:
            numbers = [tile["id"] for each in store.all("dashboards") for tile in each.get("tiles") or ()]
            tile = {"id": max(numbers, default=0) + 1, "insight": {"id": insight["id"]}, "color": None, "layouts": {}}
            store.note("dashboards", str(dashboard["id"]), tiles=[*tiles, tile])
        elif is_there and not is_wanted:
            kept = [tile for tile in tiles if _insight_id(tile) != insight["id"]]
            store.note("dashboards", str(dashboard["id"]), tiles=kept)


def _insight_id(tile: Mapping[str, Any]) -> Any:
    return (tile.get("insight") or {}).get("id")


def shown_dashboard(
    project: Project, dashboard: Entity, refresh: str, denied: frozenset[str] = frozenset(), *, bare: bool = False
) -> Entity:
    """Return a dashboard with its tiles as they are now; a list of dashboards has none, as in PostHog.

    Raises:
        ApiError: 400 for a mode that is not known.
    """
    if bare:
        return {name: value for name, value in dashboard.items() if name != "tiles"}
    tiles = []
    for tile in dashboard.get("tiles") or ():
        if (id := _insight_id(tile)) is None:
            tiles.append(tile)
            continue
        try:
            insight = project.store.get("insights", str(id))
        except ApiError:
            continue  # deleted insights are on no dashboard
        tiles.append({**tile, "insight": _on_dashboard(project, insight, refresh, denied, dashboard)})
    return {**dashboard, "tiles": tiles}


def _on_dashboard(project: Project, insight: Entity, refresh: str, denied: frozenset[str], dashboard: Entity) -> Entity:
    """Return an insight with its result, or with its error: one that fails does not spoil the others."""
    try:
        return shown(project, insight, refresh, denied, dashboard)
    except ApiError as error:
        if error.attr == "refresh":
            raise
        return {**insight, "result": None, "error": error.body()}


# ------------------------------------------------------------------------------------------------ what brings a flag


def create_experiment(store: EntityStore, body: Mapping[str, Any]) -> Entity:
    """Make an experiment with its flag; a flag that exists must have a variant ``control``.

    Raises:
        ApiError: 400.
    """
    key = body.get("feature_flag_key")
    flag = next((flag for flag in store.all("feature_flags") if flag["key"] == key), None)
    parameters = body.get("parameters")
    wanted = (parameters.get("feature_flag_variants") if isinstance(parameters, dict) else None) or [
        {"key": "control", "rollout_percentage": 50},
        {"key": "test", "rollout_percentage": 50},
    ]
    variants = ((flag["filters"] or {}).get("multivariate") or {}).get("variants") or [] if flag else wanted
    if len(variants) < 2 or variants[0].get("key") != "control":
        raise errors.validation("Feature flag must have control as the first variant.", attr="feature_flag_key")
    everybody = {"groups": [{"properties": [], "rollout_percentage": 100}], "multivariate": {"variants": wanted}}
    if flag is None:
        flag_filters.check(everybody)
    made = store.create("experiments", body)
    if flag is None:
        name = f"Feature Flag for Experiment {made['name']}"
        fields = {"key": key, "name": name, "filters": everybody, "active": bool(made["start_date"])}
        flag = store.create("feature_flags", fields)
    store.note("feature_flags", str(flag["id"]), experiment_set=[*flag.get("experiment_set", ()), made["id"]])
    return made


def create_early_access(store: EntityStore, body: Mapping[str, Any]) -> Entity:
    """Make an early access feature with its flag, which it gives to whoever enrolled.

    Raises:
        ApiError: 400.
    """
    id, name = body.get("feature_flag_id"), body.get("name")
    flags = store.all("feature_flags")
    if id is not None and all(flag["id"] != id for flag in flags):
        raise errors.validation(f'Invalid pk "{id}" - object does not exist.', "does_not_exist", "feature_flag_id")
    key = (
        re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", name.strip().lower(), flags=re.ASCII))
        if isinstance(name, str)
        else ""
    )
    if id is None and any(flag["key"] == key for flag in flags):
        raise errors.validation("There is already a feature flag with this key.", "unique", "feature_flag_id")
    made = store.create("early_access_feature", body)
    if id is None:
        enrolled = {"key": f"$feature_enrollment/{key}", "type": "person", "operator": "exact", "value": ["true"]}
        filters = {"groups": [], "super_groups": [{"properties": [enrolled], "rollout_percentage": 100}]}
        fields = {"key": key, "name": f"Feature Flag for Feature {made['name']}", "filters": filters}
        id = store.create("feature_flags", fields)["id"]
    return store.update("early_access_feature", made["id"], {"feature_flag_id": id})
