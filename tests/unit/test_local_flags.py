"""Evaluation of feature flags in the embedded PostHog."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.flags import Subject, answer, evaluate, rollout_hash


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

    found = [evaluate(simple, Subject(f"distinct_id_{i}"))["enabled"] for i in range(20)]

    assert found == [digit == "1" for digit in expected]


def test_the_same_people_get_the_same_variants_as_in_posthog() -> None:
    multivariate = flag({"rollout_percentage": 55}, key="multivariate-flag", multivariate=variants(50, 20, 20, 5, 5))

    found = [evaluate(multivariate, Subject(f"distinct_id_{i}"))["variant"] for i in range(8)]

    assert found == ["v2", "v2", "v1", None, None, "v2", "v1", None]


@given(st.text(max_size=20), st.text(max_size=20))
def test_every_identifier_falls_between_zero_and_one(key: str, bucket: str) -> None:
    assert 0 <= rollout_hash(key, bucket) <= 1
    assert rollout_hash(key, bucket, "variant") == rollout_hash(key, f"{bucket}variant")


@pytest.mark.parametrize(
    ("operator", "value", "properties", "expected"),
    [
        ("exact", ["pro", "team"], {"plan": "PRO"}, True),
        (None, "pro", {"plan": "pro"}, True),
        ("exact", "true", {"plan": True}, True),
        ("exact", "5", {"plan": 5}, True),
        ("exact", "pro", {}, False),
        ("is_not", ["pro"], {"plan": "free"}, True),
        ("is_not", ["pro"], {"plan": "pro"}, False),
        ("is_set", None, {"plan": ""}, True),
        ("is_set", None, {}, False),
        ("is_not_set", None, {}, True),
        ("icontains", "RO", {"plan": "pro"}, True),
        ("icontains", "RO", {}, False),
        ("not_icontains", "x", {"plan": "pro"}, True),
        ("regex", "^p.o$", {"plan": "pro"}, True),
        ("regex", "(", {"plan": "pro"}, False),
        ("not_regex", "^x", {"plan": "pro"}, True),
        ("gt", "3", {"plan": 4}, True),
        ("gte", 4, {"plan": "4"}, True),
        ("lt", 3, {"plan": "many"}, False),
        ("lte", 3, {}, False),
    ],
)
def test_a_condition_holds_as_its_operator_says(
    operator: str | None, value: Any, properties: Mapping[str, Any], expected: bool
) -> None:
    assert evaluate(flag(having(operator, value)), Subject("u1", properties))["enabled"] is expected


@pytest.mark.parametrize("group", [having("semver_gt", "1.0"), having("exact", 1, "cohort")])
def test_a_condition_that_cannot_be_decided_makes_the_flag_fail_instead_of_off(
    group: Mapping[str, Any],
) -> None:
    found = evaluate(flag(group), Subject("u1", {"plan": "x"}))

    assert (found["failed"], found["enabled"], found["reason"]["code"]) == (True, False, "unknown")
    assert answer({"distinct_id": "u1"}, [flag(group)], (), lambda _: {})["errorsWhileComputingFlags"] is True


def test_the_first_condition_that_matches_counts_and_is_named() -> None:
    found = evaluate(flag(having("exact", "pro"), {"rollout_percentage": 100}), Subject("u1"))

    assert found["reason"] == {
        "code": "condition_match",
        "condition_index": 1,
        "description": "Matched condition set 2",
    }


def test_the_reason_tells_a_miss_by_rollout_from_a_miss_by_condition() -> None:
    assert evaluate(flag({"rollout_percentage": 0}), Subject("u1"))["reason"]["code"] == "out_of_rollout_bound"
    assert evaluate(flag(having("exact", "pro")), Subject("u1"))["reason"]["code"] == "no_condition_match"
    assert evaluate(flag(), Subject("u1"))["reason"]["code"] == "no_condition_match"


def test_a_condition_can_name_its_variant() -> None:
    overridden = flag({"variant": "v2"}, multivariate=variants(100, 0))
    unknown = flag({"variant": "v9"}, multivariate=variants(100, 0))

    assert evaluate(overridden, Subject("u1"))["variant"] == "v2"
    assert evaluate(unknown, Subject("u1"))["variant"] == "v1"


def test_variants_that_do_not_add_up_leave_some_people_without_one() -> None:
    found = evaluate(flag({}, multivariate=variants(0)), Subject("u1"))

    assert (found["enabled"], found["variant"]) == (True, None)


def test_a_payload_is_json_text_of_what_matched() -> None:
    payloads = {"true": {"color": "red"}, "v1": '"text"'}

    assert json.loads(evaluate(flag({}, payloads=payloads), Subject("u1"))["metadata"]["payload"]) == {"color": "red"}
    multivariate = evaluate(flag({}, payloads=payloads, multivariate=variants(100)), Subject("u1"))
    assert multivariate["metadata"] == {"id": 7, "version": 3, "payload": '"text"', "description": "Beta"}
    assert evaluate(flag(payloads=payloads), Subject("u1"))["metadata"]["payload"] is None


def test_a_group_flag_looks_at_the_group() -> None:
    company = flag(having("exact", "team", "group"), aggregation_group_type_index=0)
    subject = Subject("u1", {}, {"company": "acme"}, {"company": {"plan": "team"}})

    assert evaluate(company, subject, ["company"])["enabled"] is True
    assert evaluate(company, Subject("u1"), ["company"])["reason"]["code"] == "no_group_type"
    assert evaluate(company, subject, [])["reason"]["code"] == "no_group_type"


def test_stored_properties_count_and_given_ones_win() -> None:
    stored = {"plan": "pro"}
    pro = flag(having("exact", "pro"))

    def is_on(body: Mapping[str, Any]) -> bool:
        given = {"distinct_id": "u1", **body}
        return bool(answer(given, [pro], (), lambda _: stored)["flags"]["beta"]["enabled"])

    assert is_on({}) is True
    assert is_on({"person_properties": {"plan": "free"}}) is False
    assert is_on({"person_properties": "nonsense"}) is True


def test_only_active_and_asked_flags_are_answered() -> None:
    all_flags = [flag({}), {**flag({}, key="off"), "active": False}, flag({}, key="other")]

    assert list(answer({"distinct_id": "u1"}, all_flags, (), lambda _: {})["flags"]) == ["beta", "other"]
    asked = answer({"distinct_id": "u1", "flag_keys_to_evaluate": ["other"]}, all_flags, (), lambda _: {})
    assert list(asked["flags"]) == ["other"]
    assert asked["errorsWhileComputingFlags"] is False
