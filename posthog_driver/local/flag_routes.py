"""Answers about feature flags: ``/flags`` for SDKs, definitions for local evaluation, remote config."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from . import errors, flags
from .capture_body import decode_body
from .errors import ApiError
from .flags import Evaluation, Subject
from .project import Project
from .routes import OPEN, OTHER, PROJECT, Call, ProjectCall, Route, route
from .wire import Request, Response, encode_json

__all__ = ["ROUTES", "runtime_of"]

_BROWSERS = ("Mozilla/", "Chrome/", "Safari/", "Firefox/", "Edge/")
_MOBILE = ("posthog-android/", "posthog-ios/", "posthog-flutter/", "posthog-react-native/")
_SERVERS = (
    *("posthog-python/", "posthog-ruby/", "posthog-php/", "posthog-java/", "posthog-node/", "posthog-go/"),
    *("posthog-dotnet/", "posthog-elixir/", "posthog-rs/", "python-requests/", "python-urllib3/", "curl/"),
    *("Go-http-client/", "axios/", "node-fetch/", "okhttp/", "Java/", "Ruby"),
)
_BROWSER_HEADERS = ("origin", "referer", "sec-fetch-mode", "sec-fetch-site")
_CONFIG: Mapping[str, Any] = {
    "supportedCompression": ["gzip", "gzip-js"],
    "config": {"enable_collect_everything": True},
    "toolbarParams": {},
    "isAuthenticated": False,
    "sessionRecording": False,
    "analytics": {"endpoint": "/i/v0/e/"},
    "elementsChainAsString": True,
    "defaultIdentifiedOnly": True,
    "capturePerformance": False,
    "heatmaps": False,
    "surveys": False,
    "siteApps": [],
}


def runtime_of(request: Request) -> str:
    """Return ``server`` or ``client``, which PostHog guesses by the agent; empty when it cannot tell."""
    agent = request.headers.get("user-agent", "")
    if any(name in agent for name in _BROWSERS) or agent.startswith(_MOBILE):
        return "client"
    if agent.startswith(_SERVERS):
        return "server"
    return "client" if any(name in request.headers for name in _BROWSER_HEADERS) else ""


def evaluate(call: Call) -> Response:
    """Evaluate the feature flags for somebody."""
    request = call.request
    version = request.param("v", "1")
    if version not in ("1", "2", "3", "4"):
        raise errors.validation(f"The embedded server does not have version {version!r} of /flags/.", attr="v")
    body = decode_body(request)
    if not isinstance(body, dict):
        raise errors.validation("The request must be a JSON object.")
    project = call.account.projects.by_token(str(body.get("api_key") or body.get("token") or ""))
    if project is None:
        detail = "The provided API key is invalid or has expired. Please check your API key and try again."
        raise ApiError(401, "authentication_error", "invalid_api_key", detail)
    distinct_id = body.get("distinct_id")
    if not isinstance(distinct_id, (str, int, float)) or isinstance(distinct_id, bool) or str(distinct_id) == "":
        detail = "The distinct_id field is missing from the request. Please include a valid identifier."
        raise errors.validation(detail, "missing_distinct_id", "distinct_id")
    answer = _answer(project, request, {**body, "distinct_id": str(distinct_id)})
    if request.flag("config"):
        own = {"hasFeatureFlags": bool(project.store.all("feature_flags"))}
        answer |= {**_CONFIG, "autocapture_opt_out": project.fields["autocapture_opt_out"], **own}
    return Response(200, answer if version != "1" else _first_version(answer))


def _answer(project: Project, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    if "feature_flags" in project.fields["quota_limited"]:
        none = {"flags": {}, "errorsWhileComputingFlags": False, "requestId": ""}
        return {**none, "quotaLimited": ["feature_flags"]}
    keys = body.get("flag_keys_to_evaluate")
    for name in ("flag_keys_to_evaluate", "evaluation_contexts", "evaluation_environments"):
        if body.get(name) is not None and not isinstance(body[name], list):
            raise errors.validation("Expected a list of items.", attr=name)
    contexts = body.get("evaluation_contexts") or body.get("evaluation_environments") or ()
    runtime = body.get("evaluation_runtime") or runtime_of(request)
    all_flags = [] if body.get("disable_flags") else project.store.all("feature_flags")
    found = _evaluation(project, all_flags, body)
    return flags.answer(found, all_flags, keys=keys, runtime=str(runtime), contexts=contexts)


def _evaluation(project: Project, all_flags: list[dict[str, Any]], body: Mapping[str, Any]) -> Evaluation:
    """Make the evaluation for the subject of a request; what the request says of it wins over what is stored."""
    distinct_id = str(body["distinct_id"])
    types = [str(entity["group_type"]) for entity in project.store.group_types()]
    identities = project.ingestion.identities
    person = identities.load([distinct_id]).get(distinct_id)
    groups = _dict(body.get("groups"))
    given = _dict(body.get("group_properties"))
    group_properties = {
        name: {"$group_key": str(key), **project.groups.properties(index, str(key)), **_dict(given.get(name))}
        for index, name in enumerate(types)
        if (key := groups.get(name)) is not None
    }
    stored = {**person.properties, **flags.metadata_of(person.created_at.isoformat())} if person else {}

    def in_static(cohort: int) -> bool:
        test = f"SELECT count() AS n FROM persons WHERE id = toUUID({{id}}) AND id IN COHORT {cohort:d}"
        return person is not None and bool(project.queries.rows(test, {"id": person.id})[0]["n"])

    subject = Subject(
        distinct_id,
        {"distinct_id": distinct_id, **stored, **_dict(body.get("person_properties"))},
        groups,
        {**{name: _dict(value) for name, value in given.items()}, **group_properties},
        device_id=str(body.get("device_id") or body.get("$device_id") or ""),
        anonymous_id=str(body.get("$anon_distinct_id") or ""),
        in_static=in_static,
    )
    now = datetime.now(ZoneInfo(project.fields["timezone"]))
    return Evaluation(all_flags, subject, types, project.store.all("cohorts"), now)


def _first_version(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer in the shape of before v2: values and payloads apart."""
    entries = answer["flags"]
    rest = {name: value for name, value in answer.items() if name != "flags"}
    return {
        "featureFlags": {key: entry["variant"] or entry["enabled"] for key, entry in entries.items()},
        "featureFlagPayloads": {
            key: payload for key, entry in entries.items() if (payload := entry["metadata"]["payload"]) is not None
        },
        **rest,
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ------------------------------------------------------------------------------------------------------- definitions


def definitions(call: ProjectCall) -> Response:
    """Answer all flags, for SDKs that evaluate them on their own; 304 for what they have already."""
    project = call.project
    if "feature_flags" in project.fields["quota_limited"]:
        detail = "You have exceeded your feature flag request quota"
        raise ApiError(402, "quota_limited", "payment_required", detail)
    with_cohorts = call.request.flag("send_cohorts")
    all_flags = project.store.all("feature_flags")
    cohorts = {str(cohort["id"]): cohort for cohort in project.store.all("cohorts") if not cohort["is_static"]}
    used: dict[str, Any] = {}
    shown = []
    for flag in all_flags:
        filters = flag["filters"] or {}
        if with_cohorts:
            _collect(filters, cohorts, used)
        else:
            filters = {**filters, "groups": [_without_cohorts(group, cohorts) for group in filters.get("groups") or ()]}
        names = ("id", "name", "key", "deleted", "active", "ensure_experience_continuity", "version")
        own = {"team_id": project.id, "filters": filters, "evaluation_runtime": flag.get("evaluation_runtime", "all")}
        shown.append({**{name: flag.get(name) for name in names}, **own})
    types = {str(entity["group_type_index"]): entity["group_type"] for entity in project.store.group_types()}
    body = {"flags": shown, "group_type_mapping": types, "cohorts": used}
    etag = f'"{hashlib.sha256(encode_json(body)).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, must-revalidate"}
    known = [tag.strip().removeprefix("W/") for tag in call.request.headers.get("if-none-match", "").split(",")]
    return Response(304, None, headers) if etag in known else Response(200, body, headers)


def _collect(filters: Any, cohorts: Mapping[str, Mapping[str, Any]], used: dict[str, Any]) -> None:
    """Add the cohorts that filters name, and those that these name."""
    if isinstance(filters, list):
        for entry in filters:
            _collect(entry, cohorts, used)
    elif isinstance(filters, dict):
        id = str(filters.get("value"))
        if filters.get("type") == "cohort" and id in cohorts and id not in used:
            used[id] = (cohorts[id]["filters"] or {}).get("properties") or {}
            _collect(used[id], cohorts, used)
        for name in ("groups", "super_groups", "properties", "values"):
            _collect(filters.get(name), cohorts, used)


def _without_cohorts(group: Mapping[str, Any], cohorts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Write the filters of a simple cohort in its place: all must hold, and they are of persons."""
    entries: list[Any] = []
    for entry in group.get("properties") or ():
        simple = _simple(cohorts.get(str(entry.get("value")))) if entry.get("type") == "cohort" else None
        is_plain = entry.get("operator") in (None, "in", "exact") and not entry.get("negation")
        entries += simple if simple is not None and is_plain else [entry]
    return {**group, "properties": entries}


def _simple(cohort: Mapping[str, Any] | None) -> list[Any] | None:
    filters: Any = ((cohort or {}).get("filters") or {}).get("properties")
    while isinstance(filters, dict) and len(filters.get("values") or ()) == 1:
        filters = filters["values"][0]
    entries = filters.get("values") if isinstance(filters, dict) and filters.get("type") == "AND" else [filters]
    is_simple = all(
        isinstance(entry, dict) and entry.get("type") == "person" and not entry.get("negation")
        for entry in entries or [None]
    )
    return list(entries or ()) if is_simple else None


def remote_config(call: ProjectCall, id: str) -> Response:
    """Answer the payload of a flag, by its key or number."""
    found = [flag for flag in call.project.store.all("feature_flags") if id in (flag["key"], str(flag["id"]))]
    if not found:
        raise errors.not_found()
    payload = ((found[0]["filters"] or {}).get("payloads") or {}).get("true")
    return Response(200, encode_json(payload).decode(), content_type="application/json")


def evaluation_reasons(call: ProjectCall) -> Response:
    """Answer what each flag is for somebody, and why."""
    request, project = call.request, call.project
    if not (distinct_id := request.param("distinct_id")):
        raise errors.validation("User distinct_id is required")
    groups = request.param("groups", "{}")
    try:
        parsed = Request("POST", "", body=groups.encode()).json_object()
    except ApiError:
        raise errors.validation("groups must be a JSON object.", attr="groups") from None
    all_flags = project.store.all("feature_flags")
    found = _evaluation(project, all_flags, {"distinct_id": distinct_id, "groups": parsed})
    entries = {flag["key"]: found.of(flag) for flag in all_flags}
    return Response(200, {key: _reasoned(entry) for key, entry in entries.items()})


def _reasoned(entry: Mapping[str, Any]) -> dict[str, Any]:
    reason = entry["reason"]
    evaluation = {"reason": reason["code"], "condition_index": reason["condition_index"]}
    return {"value": entry["variant"] or entry["enabled"], "evaluation": evaluation}


def _by_token(path: str) -> Route:
    """Make a route whose project is the one of the token in the query string."""
    return Route("GET", re.compile(f"{path}(?P<project>)/?"), definitions, "feature_flag:read", OTHER)


ROUTES = (
    route("POST", "/flags/", evaluate, OPEN),
    _by_token("/flags/definitions"),
    _by_token("/api/feature_flag/local_evaluation"),
    route("GET", f"{PROJECT}/feature_flags/local_evaluation/", definitions, "feature_flag:read"),
    route("GET", f"{PROJECT}/feature_flags/evaluation_reasons/", evaluation_reasons, "feature_flag:read"),
    route("GET", f"{PROJECT}/feature_flags/{{id}}/remote_config/", remote_config, "feature_flag:read"),
)
