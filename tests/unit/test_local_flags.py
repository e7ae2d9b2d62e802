"""Evaluation of feature flags in the embedded PostHog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.errors import ApiError
from posthog_driver.local.flag_conditions import property_holds
from posthog_driver.local.flag_filters import check
from posthog_driver.local.flag_routes import runtime_of
from posthog_driver.local.flags import Evaluation, Subject, answer, metadata_of, rollout_hash
from posthog_driver.local.wire import Request


def flag(*groups: Mapping[str, Any], key: str = "beta", **filters: Any) -> dict[str, Any]:
    shape = {"groups": list(groups), **filters}
    return {"id": 7, "key": key, "name": "Beta", "active": True, "version": 3, "filters": shape}


def having(operator: str | None, value: Any = None, kind: str = "person") -> dict[str, Any]:
    return {"properties": [{"key": "plan", "operator": operator, "value": value, "type": kind}]}


def variants(*shares: int) -> dict[str, Any]:
    return {"variants": [{"key": f"v{number}", "rollout_percentage": share} for number, share in enumerate(shares, 1)]}


def test_the_same_people_are_in_as_in_posthog() -> None:
    # The first twenty of the consistency test that PostHog's SDKs share: distinct_id_0, distinct_id_1, ...
    expected = "01101001010110100011"
    simple = flag({"rollout_percentage": 45}, key="simple-flag")

    found = [of(simple, Subject(f"distinct_id_{i}"))["enabled"] for i in range(20)]

    assert found == [digit == "1" for digit in expected]


def test_the_same_people_get_the_same_variants_as_in_posthog() -> None:
    multivariate = flag({"rollout_percentage": 55}, key="multivariate-flag", multivariate=variants(50, 20, 20, 5, 5))

    found = [of(multivariate, Subject(f"distinct_id_{i}"))["variant"] for i in range(8)]

    assert found == ["v2", "v2", "v1", None, None, "v2", "v1", None]


@given(st.text(max_size=20), st.text(max_size=20))
def test_every_identifier_falls_between_zero_and_one(key: str, bucket: str) -> None:
    assert 0 <= rollout_hash(key, bucket) <= 1
    assert rollout_hash(key, bucket, "variant") == rollout_hash(key, f"{bucket}variant")


def of(found: Mapping[str, Any], subject: Subject, group_types: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entry of a flag that stands alone."""
    return Evaluation([found], subject, group_types).of(found)


NOW = datetime(2026, 6, 15, 12, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("operator", "value", "found", "expected"),
    [
        (None, "pro", "pro", True),
        ("exact", [True], "TRUE", True),
        ("exact", ["true", False], "true", False),  # PostHog: all of the list must be true
        ("exact", None, None, False),
        ("exact", "null", None, True),
        ("exact", {"a": 1}, {"a": 1}, True),
        ("icontains", "a", {"A": 1}, True),
        ("icontains_multi", "RO", "pro", True),
        ("not_between", [3], 4, False),
        ("is_date_before", "2026-06-15", 1_700_000_000, True),
        ("is_date_before", "2026-06-15", True, False),
        ("is_date_before", 5, "2026-06-15", False),
        ("is_date_exact", "2026-06-15", "2026-06-14T22:00:00Z", True),  # midnight in Berlin
        ("is_date_after", "-1h", "2026-06-15T11:30:00+02:00", True),
        ("is_date_after", "1d", "2026-06-14T13:00:00+02:00", True),
        ("semver_wildcard", "*", "0.0.1", True),
        ("semver_wildcard", "1.*.3", "1.2.3", False),
        ("semver_wildcard", "1.2.x", "v1.2.3", True),
        ("semver_caret", "1.2.3", "1.3.0-beta", False),
        ("semver_caret", "0.0.3", "0.0.3", True),
        ("semver_gt", "1.0.0-alpha", "1.0.0-alpha.1", True),
        ("semver_gt", "1.0.0-1", "1.0.0-alpha", True),
        ("semver_eq", "1.0.0", "1.0.0.0", False),
        ("in", 5, 5, False),
        ("regex", "^a", ["a"], False),
    ],
)
def test_values_are_compared_as_posthogs_flag_service_compares_them(
    operator: str | None, value: Any, found: Any, expected: bool
) -> None:
    entry = {"key": "plan", "operator": operator, "value": value}

    assert property_holds(entry, {"plan": found}, NOW) is expected


@given(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), st.tuples(*[st.integers(0, 30)] * 3))
def test_versions_are_ordered_by_their_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    def holds(operator: str) -> bool:
        entry = {"key": "v", "operator": f"semver_{operator}", "value": ".".join(map(str, other))}
        return property_holds(entry, {"v": ".".join(map(str, one))}, NOW)

    expected = {
        "eq": one == other,
        "neq": one != other,
        "gt": one > other,
        "gte": one >= other,
        "lt": one < other,
        "lte": one <= other,
        "tilde": one >= other and one[:2] == other[:2],
    }
    assert {operator: holds(operator) for operator in expected} == expected


def test_a_flag_that_asks_for_a_cohort_that_is_not_there_fails_instead_of_being_off() -> None:
    group = {"properties": [{"key": "id", "type": "cohort", "value": 5, "operator": "in"}]}
    lost = flag(group)
    found = answer(Evaluation([lost], Subject("u1")), [lost])

    assert found["errorsWhileComputingFlags"] is True
    entry = found["flags"]["beta"]
    assert (entry["failed"], entry["enabled"], entry["reason"]["code"]) == (True, False, "dependency_not_found_cohort")


def cohort(id: int, *entries: dict[str, Any], operator: str = "AND", **more: Any) -> dict[str, Any]:
    return {"id": id, "filters": {"properties": {"type": operator, "values": list(entries)}}, **more}


def member(id: int, **more: Any) -> dict[str, Any]:
    return {"key": "id", "type": "cohort", "value": id, **more}


def test_cohorts_are_decided_from_their_filters_lists_and_each_other() -> None:
    pro = {"key": "plan", "type": "person", "operator": "exact", "value": "pro"}
    did = {"key": "paid", "type": "behavioral", "value": "performed_event"}
    known = [
        cohort(1, pro),
        cohort(2, {**pro, "negation": True}),
        cohort(3, did),
        cohort(4, member(1), member(5), operator="OR"),
        cohort(5, is_static=True),
        cohort(6, member(1, negation=True), member(5)),
        cohort(7, member(7)),
        cohort(8),
    ]

    def inside(id: int, plan: str, listed: bool = False, **more: Any) -> bool:
        one = flag({"properties": [member(id, **more)]})
        subject = Subject("u1", {"plan": plan}, in_static=lambda cohort: listed and cohort == 5)
        return bool(Evaluation([one], subject, (), known).of(one)["enabled"])

    assert [inside(id, "pro") for id in range(1, 9)] == [True, False, False, True, False, False, False, True]
    assert [inside(id, "free") for id in range(1, 9)] == [False, True, False, False, False, False, False, True]
    assert [inside(id, "free", listed=True) for id in (4, 5, 6)] == [True, True, True]
    assert [inside(1, "pro", operator="not_in"), inside(1, "pro", negation=True)] == [False, False]


def numbered(id: int, *groups: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**flag(*groups, key=f"f{id}"), "id": id, **more}


def needs(id: int, value: Any = True) -> dict[str, Any]:
    return {"properties": [{"key": str(id), "type": "flag", "operator": "flag_evaluates_to", "value": value}]}


def test_flags_that_need_each_other_or_nothing_are_off_with_a_reason() -> None:
    flags = [
        numbered(1, needs(2)),
        numbered(2, needs(1)),
        numbered(3, needs(1)),
        numbered(4, needs(9)),
        numbered(5, {}),
    ]
    found = answer(Evaluation(flags, Subject("u1")), flags)

    codes = {key: entry["reason"]["code"] for key, entry in found["flags"].items()}
    assert codes == {**dict.fromkeys(["f1", "f2", "f3", "f4"], "missing_dependency"), "f5": "condition_match"}
    assert found["errorsWhileComputingFlags"] is False


def test_a_disabled_flag_counts_as_off_for_those_that_need_it() -> None:
    off = numbered(1, {}, active=False)
    flags = [off, numbered(2, needs(1)), numbered(3, needs(1, False)), numbered(4, needs(1, "v1"))]
    evaluation = Evaluation(flags, Subject("u1"))

    assert [evaluation.of(each)["enabled"] for each in flags] == [False, False, True, False]
    assert evaluation.of(off)["reason"]["code"] == "flag_disabled"


def test_a_person_may_be_asked_for_when_it_was_made_and_for_what_came_first() -> None:
    made = {"key": "created_at", "type": "person_metadata", "operator": "is_date_before", "value": "2026-01-01"}
    first = {"key": "$initial_referrer", "operator": "exact", "value": "news"}
    young, came = flag({"properties": [made]}), flag({"properties": [first]})

    assert of(young, Subject("u1", metadata_of("2025-05-05T00:00:00+00:00")))["enabled"] is True
    assert of(young, Subject("u1", {"created_at": "2025-05-05"}))["enabled"] is False
    for properties in ({"$referrer": "news"}, {"referrer": "news"}, {"$initial_referrer": "news"}):
        assert of(came, Subject("u1", properties))["enabled"] is True
    assert of(came, Subject("u1", {"$initial_referrer": "ad", "$referrer": "news"}))["enabled"] is False


def test_a_flag_may_be_decided_for_the_device_or_for_who_the_person_was_before() -> None:
    half = flag({"rollout_percentage": 50})
    by_device, lasting = {**half, "bucketing_identifier": "device_id"}, {**half, "ensure_experience_continuity": True}
    users = [f"u{number}" for number in range(20)]

    assert [of(by_device, Subject("x", device_id=user))["enabled"] for user in users] == [
        of(half, Subject(user))["enabled"] for user in users
    ]
    assert [of(lasting, Subject("x", anonymous_id=user))["enabled"] for user in users] == [
        of(half, Subject(user))["enabled"] for user in users
    ]
    assert of(by_device, Subject("x"))["reason"]["code"] == "out_of_rollout_bound"


def test_the_old_and_the_new_form_of_a_holdout_hold_the_same_people_out() -> None:
    new = flag({}, multivariate=variants(100), holdout={"id": 3, "exclusion_percentage": 30})
    old = flag({}, multivariate=variants(100), holdout_groups=[{"rollout_percentage": 30, "variant": "holdout-3"}])

    found = [[of(each, Subject(f"u{number}"))["variant"] for number in range(60)] for each in (new, old)]
    assert found[0] == found[1]
    assert set(found[0]) == {"holdout-3", "v1"}


def test_a_condition_for_groups_beside_one_for_persons_is_passed_over_without_the_group() -> None:
    company = {"properties": [{"key": "size", "type": "group", "operator": "gt", "value": 5, "group_type_index": 0}],
               "aggregation_group_type_index": 0}  # fmt: skip
    mixed = flag(having("exact", "pro"), company)

    missed = of(mixed, Subject("u1"), ["company"])["reason"]
    assert (missed["code"], missed["condition_index"]) == ("no_condition_match", 0)
    assert "group" in missed["description"]
    acme = Subject("u1", {}, {"company": "acme"}, {"company": {"size": 9}})
    assert of(mixed, acme, ["company"])["reason"]["condition_index"] == 1


def test_the_first_condition_that_matches_counts_and_is_named() -> None:
    found = of(flag(having("exact", "pro"), {"rollout_percentage": 100}), Subject("u1"))

    assert found["reason"] == {
        "code": "condition_match",
        "condition_index": 1,
        "description": "Matched condition set 2",
    }


def test_the_reason_tells_a_miss_by_rollout_from_a_miss_by_condition() -> None:
    assert of(flag({"rollout_percentage": 0}), Subject("u1"))["reason"]["code"] == "out_of_rollout_bound"
    assert of(flag(having("exact", "pro")), Subject("u1"))["reason"]["code"] == "no_condition_match"
    assert of(flag(), Subject("u1"))["reason"]["code"] == "no_condition_match"


def test_a_condition_can_name_its_variant() -> None:
    overridden = flag({"variant": "v2"}, multivariate=variants(100, 0))
    unknown = flag({"variant": "v9"}, multivariate=variants(100, 0))

    assert of(overridden, Subject("u1"))["variant"] == "v2"
    assert of(unknown, Subject("u1"))["variant"] == "v1"


def test_variants_that_do_not_add_up_leave_some_people_without_one() -> None:
    found = of(flag({}, multivariate=variants(0)), Subject("u1"))

    assert (found["enabled"], found["variant"]) == (True, None)


def test_a_payload_is_json_text_of_what_matched() -> None:
    payloads = {"true": {"color": "red"}, "v1": '"text"'}

    assert json.loads(of(flag({}, payloads=payloads), Subject("u1"))["metadata"]["payload"]) == {"color": "red"}
    multivariate = of(flag({}, payloads=payloads, multivariate=variants(100)), Subject("u1"))
    assert multivariate["metadata"] == {
        "id": 7,
        "version": 3,
        "payload": '"text"',
        "description": "Beta",
        "has_experiment": False,
    }
    assert of(flag(payloads=payloads), Subject("u1"))["metadata"]["payload"] is None


def test_a_group_flag_looks_at_the_group() -> None:
    company = flag(having("exact", "team", "group"), aggregation_group_type_index=0)
    subject = Subject("u1", {}, {"company": "acme"}, {"company": {"plan": "team"}})

    assert of(company, subject, ["company"])["enabled"] is True
    assert of(company, Subject("u1"), ["company"])["reason"]["code"] == "no_group_type"
    assert of(company, subject, [])["reason"]["code"] == "no_group_type"


def test_only_active_and_asked_flags_for_the_caller_are_answered() -> None:
    flags = [
        numbered(1, {}),
        numbered(2, {}, active=False),
        numbered(3, {}, evaluation_runtime="server"),
        numbered(4, {}, evaluation_runtime="client"),
        numbered(5, {}, evaluation_contexts=["docs", "app"]),
    ]

    def keys(**asked: Any) -> list[str]:
        return list(answer(Evaluation(flags, Subject("u1")), flags, **asked)["flags"])

    assert keys() == ["f1", "f5"]
    assert keys(keys=["f5", "f9"]) == ["f5"]
    assert keys(runtime="server") == ["f1", "f3", "f5"]
    assert keys(runtime="client") == ["f1", "f4", "f5"]
    assert keys(contexts=["app"]) == ["f1", "f5"]
    assert keys(contexts=["shop"]) == ["f1"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"User-Agent": "posthog-python/7.0"}, "server"),
        ({"User-Agent": "posthog-ios/3"}, "client"),
        ({"User-Agent": "Mozilla/5.0"}, "client"),
        ({"User-Agent": "mine/1"}, ""),
        ({}, ""),
        ({"Origin": "https://a.test"}, "client"),
        ({"User-Agent": "posthog-node/5", "Origin": "https://a.test"}, "server"),
    ],
)
def test_the_agent_tells_where_a_caller_runs(headers: dict[str, str], expected: str) -> None:
    assert runtime_of(Request.parse("POST", "/flags/", headers)) == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"groups": 3},
        {"groups": [3]},
        {"groups": [{"properties": 3}]},
        {"groups": [{"properties": [{"operator": "exact"}]}]},
        {"groups": [{"properties": [{"key": "a", "type": "weather"}]}]},
        {"groups": [{"properties": [{"key": "a", "operator": "resembles"}]}]},
        {"groups": [{"rollout_percentage": True}]},
        {"groups": [{"rollout_percentage": -1}]},
        {"groups": [], "aggregation_group_type_index": 5},
        {"groups": [], "multivariate": {"variants": [{"rollout_percentage": 100}]}},
        {"groups": [], "multivariate": {"variants": [{"key": "a", "rollout_percentage": 99}]}},
        {"groups": [], "multivariate": 3},
        {"groups": [], "payloads": [1]},
        {"groups": [], "payloads": {"v1": "x"}},
        {"groups": [], "holdout": 3},
        {"groups": [], "holdout_groups": [{"rollout_percentage": 200}]},
    ],
)
def test_filters_that_cannot_be_evaluated_are_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        check(filters)
    assert (caught.value.status, caught.value.attr) == (400, "filters")
