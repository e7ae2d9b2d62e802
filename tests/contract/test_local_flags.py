"""Feature flags of the embedded PostHog as SDKs ask for them, against PostHog's own vectors and rules.

The vectors are those that all of PostHog's SDKs share; the tables of operators follow PostHog's flag service
(``rust/feature-flags/src/properties/property_matching.rs``), not the server under test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from posthog_driver.local import LocalPostHog, LocalProject

HANG = 60.0

IN_45_PERCENT = (
    "0110100101 0110100011 0100101100 0111100000 0110110001 1000010101 0110101011 0010010100 1000110110 1111101100"
)
"""Whether ``distinct_id_0`` to ``distinct_id_99`` are in the 45 % of ``simple-flag``."""

VARIANTS_OF_55_PERCENT = (
    "2210021000 1301210041 0300011111 1303210300 1201120100 1112102232 1012401110 1203000000 1502120330 0003001103"
)
"""The variant of ``distinct_id_0`` to ``distinct_id_99`` by ``multivariate-flag``, 0 for those that are not in."""


class Flags:
    """The flags of one project."""

    def __init__(self, project: LocalProject) -> None:
        self.project = project

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        return requests.request(
            method,
            f"{self.project.url}/api/projects/{self.project.project_id}/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.project.personal_api_key}", **headers},
            timeout=HANG,
        )

    def make(self, key: str, *groups: dict[str, Any], flag: dict[str, Any] | None = None, **filters: Any) -> int:
        body = {"key": key, "name": key.title(), "filters": {"groups": list(groups), **filters}, **(flag or {})}
        answer = self.api("POST", "feature_flags/", body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def ask(
        self, distinct_id: str = "ada", *, query: str = "v=2", agent: str = "python-requests/2", **body: Any
    ) -> Any:
        answer = self.raw(distinct_id, query=query, agent=agent, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def raw(
        self, distinct_id: Any = "ada", *, query: str = "v=2", agent: str = "python-requests/2", **body: Any
    ) -> requests.Response:
        sent = {"api_key": self.project.project_api_key, "distinct_id": distinct_id, **body}
        url = f"{self.project.url}/flags/?{query}"
        return requests.post(url, json=sent, headers={"User-Agent": agent}, timeout=HANG)

    def of(self, distinct_id: str = "ada", **body: Any) -> dict[str, Any]:
        """Return each flag's value: its variant, or whether it is on."""
        flags = self.ask(distinct_id, **body)["flags"]
        return {key: entry["variant"] or entry["enabled"] for key, entry in flags.items()}

    def capture(self, event: str, distinct_id: str, **properties: Any) -> None:
        body = {"api_key": self.project.project_api_key, "event": event, "distinct_id": distinct_id}
        answer = requests.post(f"{self.project.url}/i/v0/e/", json={**body, "properties": properties}, timeout=HANG)
        assert answer.status_code == 200


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture
def flags(local: LocalPostHog) -> Iterator[Flags]:
    project = local.new_project(name="Flags")
    yield Flags(project)
    local.drop_project(project)


def having(operator: str, value: Any, key: str = "p", **more: Any) -> dict[str, Any]:
    return {"properties": [{"key": key, "operator": operator, "value": value, "type": "person", **more}]}


def variants(*shares: float) -> dict[str, Any]:
    return {"variants": [{"key": f"v{number}", "rollout_percentage": share} for number, share in enumerate(shares, 1)]}


# ------------------------------------------------------------------------------------------------------ who is in


def test_the_same_people_are_in_as_in_every_sdk(flags: Flags) -> None:
    flags.make("simple-flag", {"rollout_percentage": 45})
    flags.make("multivariate-flag", {"rollout_percentage": 55}, multivariate=variants(50, 20, 20, 5, 5))

    found = [flags.of(f"distinct_id_{number}") for number in range(100)]

    simple = "".join("1" if values["simple-flag"] else "0" for values in found)
    assert simple == IN_45_PERCENT.replace(" ", "")
    multivariate = "".join(str(values["multivariate-flag"] or "v0")[1:] for values in found)
    assert multivariate == VARIANTS_OF_55_PERCENT.replace(" ", "")


def test_nobody_is_in_nothing_and_everybody_is_in_everything(flags: Flags) -> None:
    flags.make("none", {"rollout_percentage": 0})
    flags.make("all", {"rollout_percentage": 100})
    flags.make("unsaid", {})
    flags.make("empty")

    for number in range(10):
        assert flags.of(f"u{number}") == {"none": False, "all": True, "unsaid": True, "empty": False}


def test_an_entry_tells_why_and_carries_its_payload_as_text(flags: Flags) -> None:
    id = flags.make("pro", {"rollout_percentage": 0}, having("exact", "pro", "plan"), payloads={"true": '{"a": 1}'})

    found = flags.ask(person_properties={"plan": "pro"})
    assert found["errorsWhileComputingFlags"] is False
    assert found["requestId"]
    entry = found["flags"]["pro"]
    assert {name: entry[name] for name in ("key", "enabled", "variant", "reason")} == {
        "key": "pro",
        "enabled": True,
        "variant": None,
        "reason": {"code": "condition_match", "condition_index": 1, "description": "Matched condition set 2"},
    }
    assert (entry["metadata"]["id"], entry["metadata"]["version"]) == (id, 1)
    assert json.loads(entry["metadata"]["payload"]) == {"a": 1}

    missed = flags.ask()["flags"]["pro"]
    assert missed["enabled"] is False
    assert missed["reason"]["code"] == "out_of_rollout_bound"
    assert missed["metadata"]["payload"] is None


def test_a_variant_has_its_own_payload_and_a_condition_may_name_it(flags: Flags) -> None:
    flags.make(
        "test",
        {**having("exact", "pro", "plan"), "variant": "v2"},
        {"rollout_percentage": 100},
        multivariate=variants(100, 0),
        payloads={"v1": '"one"', "v2": '"two"'},
    )

    forced = flags.ask(person_properties={"plan": "pro"})["flags"]["test"]
    usual = flags.ask()["flags"]["test"]
    assert (forced["variant"], forced["metadata"]["payload"]) == ("v2", '"two"')
    assert (usual["variant"], usual["metadata"]["payload"]) == ("v1", '"one"')


def test_a_condition_that_names_a_variant_goes_before_those_that_do_not(flags: Flags) -> None:
    flags.make(
        "test", {"rollout_percentage": 100}, {**having("is_set", None), "variant": "v2"}, multivariate=variants(100, 0)
    )

    entry = flags.ask(person_properties={"p": 1})["flags"]["test"]
    assert (entry["variant"], entry["reason"]["condition_index"]) == ("v2", 1)


# ------------------------------------------------------------------------------------------------------ conditions

TODAY = datetime.now(timezone.utc)
LAST_WEEK, LAST_YEAR = ((TODAY - timedelta(days=days)).isoformat() for days in (6, 365))

HOLDS: list[tuple[str, Any, Any]] = [
    ("exact", "Pro", "pro"),
    ("exact", ["free", "PRO"], "pro"),
    ("exact", 5, "5"),
    ("exact", "5", 5),
    ("exact", ["5"], 5),
    ("exact", "true", True),
    ("exact", ["true"], "True"),
    ("exact", "false", "anything"),  # what is not true is false
    ("is_not", "pro", "free"),
    ("is_not", ["pro", "team"], "free"),
    ("is_not", "true", "no"),
    ("icontains", "RO", "pro"),
    ("icontains", 2, 123),
    ("not_icontains", "x", "pro"),
    ("icontains_multi", ["x", "RO"], "pro"),
    ("not_icontains_multi", ["x", "y"], "pro"),
    ("starts_with", "PR", "pro"),
    ("not_starts_with", "r", "pro"),
    ("ends_with", "RO", "pro"),
    ("not_ends_with", "p", "pro"),
    ("regex", "^p.o$", "pro"),
    ("regex", r"\d{3}", 1234),
    ("not_regex", "^x", "pro"),
    ("gt", 3, 4),
    ("gt", "3", "10"),
    ("gte", 4, "4"),
    ("lt", 3, -2.5),
    ("lte", "3", 3),
    ("between", [1, 5], 5),
    ("between", ["1", "5"], "1"),
    ("not_between", [1, 5], 5.01),
    ("is_set", None, ""),
    ("is_set", None, None),
    ("semver_eq", "3.8", "3.08"),
    ("semver_eq", "v1.2.3", "1.2.3"),
    ("semver_neq", "1.2.3", "1.2.4"),
    ("semver_gt", "1.9.0", "1.10"),
    ("semver_gt", "2.0.0-beta.2", "2.0.0-beta.11"),
    ("semver_gte", "2", "2.0.0"),
    ("semver_lt", "2.0.0", "2.0.0-rc.1"),
    ("semver_lte", "2.0.0", "1.99.99"),
    ("semver_tilde", "1.2.3", "1.2.9"),
    ("semver_caret", "1.2.3", "1.9.0"),
    ("semver_caret", "0.2.3", "0.2.9"),
    ("semver_wildcard", "1.2.*", "1.2.7"),
    ("semver_wildcard", "1.*", "1.99.0"),
    ("is_date_before", "2024-01-02", "2024-01-01"),
    ("is_date_before", "2024-01-01T12:00:00+02:00", "2024-01-01T09:59:59Z"),
    ("is_date_before", "-30d", LAST_YEAR),
    ("is_date_after", "-1m", LAST_WEEK),
    ("is_date_after", "2024-01-01", "2024-01-01 00:00:01"),
    ("is_date_exact", "2024-01-01", "2024-01-01T00:00:00Z"),
]
HOLDS_NOT: list[tuple[str, Any, Any]] = [
    ("exact", "pro", "free"),
    ("exact", "true", "yes"),
    ("is_not", "pro", "PRO"),
    ("icontains", "x", "pro"),
    ("not_icontains", "RO", "pro"),
    ("icontains_multi", ["x", "y"], "pro"),
    ("starts_with", "r", "pro"),
    ("ends_with", "p", "pro"),
    ("regex", "^x", "pro"),
    ("regex", "(", "pro"),
    ("not_regex", "(", "pro"),
    ("gt", 3, 3),
    ("gt", 3, "many"),
    ("lt", "few", 3),
    ("between", [1, 5], 5.01),
    ("between", [5, 1], 3),
    ("between", 3, 3),
    ("not_between", [1, 5], 3),
    ("not_between", [1, 5], "many"),
    ("is_not_set", None, ""),
    ("semver_gt", "1.10", "1.9.0"),
    ("semver_gt", "1.0.0", "new"),
    ("semver_gt", "new", "1.0.0"),
    ("semver_tilde", "1.2.3", "1.3.0"),
    ("semver_tilde", "1.2.3", "1.2.2"),
    ("semver_caret", "1.2.3", "2.0.0"),
    ("semver_caret", "0.2.3", "0.3.0"),
    ("semver_caret", "0.0.3", "0.0.4"),
    ("semver_wildcard", "1.2.*", "1.3.0"),
    ("is_date_before", "2024-01-01", "2024-01-01"),
    ("is_date_before", "2024-01-01", "some day"),
    ("is_date_before", "some day", "2024-01-01"),
    ("is_date_after", "-7d", LAST_YEAR),
    ("is_date_exact", "2024-01-01", "2024-01-01T00:00:01Z"),
]
WITHOUT_A_VALUE = {
    "exact": False,
    "is_not": True,
    "icontains": False,
    "not_icontains": True,
    "icontains_multi": False,
    "not_icontains_multi": True,
    "starts_with": False,
    "not_starts_with": True,
    "ends_with": False,
    "not_ends_with": True,
    "regex": False,
    "not_regex": True,
    "gt": False,
    "gte": False,
    "lt": False,
    "lte": False,
    "between": False,
    "not_between": True,
    "semver_eq": False,
    "semver_neq": False,
    "semver_gt": False,
    "semver_caret": False,
    "is_date_before": False,
    "is_date_exact": False,
    "is_set": False,
    "is_not_set": True,
}


def test_every_operator_decides_as_posthogs_flag_service_does(flags: Flags) -> None:
    cases = [(*case, True) for case in HOLDS] + [(*case, False) for case in HOLDS_NOT]
    for number, (operator, value, _, _) in enumerate(cases):
        flags.make(f"case-{number}", having(operator, value, f"p{number}"))

    found = flags.of(person_properties={f"p{number}": case[2] for number, case in enumerate(cases)})

    assert {f"{case} #{number}" for number, case in enumerate(cases) if found[f"case-{number}"] is not case[3]} == set()


def test_a_missing_property_fails_every_operator_but_the_negative_ones(flags: Flags) -> None:
    values = {"between": [1, 2], "not_between": [1, 2], "is_date_before": "2024-01-01", "is_date_exact": "2024-01-01"}
    for operator in WITHOUT_A_VALUE:
        flags.make(operator, having(operator, values.get(operator, "1")))

    assert flags.of() == WITHOUT_A_VALUE


def test_stored_properties_count_and_those_of_the_request_win(flags: Flags) -> None:
    flags.make("pro", having("exact", "pro", "plan"))
    flags.capture("seen", "ada", **{"$set": {"plan": "pro"}})

    assert flags.of("ada") == {"pro": True}
    assert flags.of("bob") == {"pro": False}
    assert flags.of("ada", person_properties={"plan": "free"}) == {"pro": False}
    assert flags.of("bob", person_properties={"plan": "pro"}) == {"pro": True}


def test_a_flag_of_groups_is_decided_for_the_group(flags: Flags) -> None:
    about = {"$group_type": "company", "$group_key": "acme", "$group_set": {"size": 300}}
    flags.capture("$groupidentify", "ada", **about)
    big = {"properties": [{"key": "size", "operator": "gt", "value": 100, "type": "group", "group_type_index": 0}]}
    flags.make("big", big, aggregation_group_type_index=0)

    assert flags.of("ada", groups={"company": "acme"}) == {"big": True}
    assert flags.of("eve", groups={"company": "acme"}) == {"big": True}
    small = {"company": {"size": 3}}
    assert flags.of("ada", groups={"company": "acme"}, group_properties=small) == {"big": False}
    assert flags.ask("ada")["flags"]["big"]["reason"]["code"] == "no_group_type"


def test_everybody_of_a_group_is_in_the_same_part_of_the_rollout(flags: Flags) -> None:
    flags.capture("seen", "ada", **{"$groups": {"company": "acme"}})
    flags.make("half", {"rollout_percentage": 50}, aggregation_group_type_index=0)

    per_company = {
        company: {flags.of(who, groups={"company": company})["half"] for who in ("ada", "bob", "eve")}
        for company in (f"c{number}" for number in range(12))
    }
    assert {len(values) for values in per_company.values()} == {1}
    assert {value for values in per_company.values() for value in values} == {True, False}


def test_cohorts_decide_by_their_filters_or_their_list(flags: Flags) -> None:
    flags.capture("seen", "ada", **{"$set": {"plan": "pro"}})
    flags.capture("seen", "bob", **{"$set": {"plan": "free"}})
    ids = {
        name: flags.api("GET", f"persons/?distinct_id={name}").json()["results"][0]["uuid"] for name in ("ada", "bob")
    }
    filters = {"properties": {"type": "OR", "values": [{"type": "AND", "values": [
        {"key": "plan", "type": "person", "operator": "exact", "value": ["pro"]}]}]}}  # fmt: skip
    pro = flags.api("POST", "cohorts/", {"name": "Pro", "filters": filters}).json()["id"]
    listed = flags.api("POST", "cohorts/", {"name": "Listed", "is_static": True}).json()["id"]
    added = flags.api("PATCH", f"cohorts/{listed}/add_persons_to_static_cohort/", {"person_ids": [ids["bob"]]})
    assert added.status_code == 200

    def of_cohort(id: int, operator: str) -> dict[str, Any]:
        return {"properties": [{"key": "id", "type": "cohort", "value": id, "operator": operator}]}

    flags.make("pro", of_cohort(pro, "in"))
    flags.make("not-pro", of_cohort(pro, "not_in"))
    flags.make("listed", of_cohort(listed, "in"))

    assert flags.of("ada") == {"pro": True, "not-pro": False, "listed": False}
    assert flags.of("bob") == {"pro": False, "not-pro": True, "listed": True}
    assert flags.of("ada", person_properties={"plan": "free"})["pro"] is False


def depending(id: int, value: Any) -> dict[str, Any]:
    entry = {"key": str(id), "type": "flag", "operator": "flag_evaluates_to", "value": value}
    return {"properties": [entry]}


def test_a_flag_may_depend_on_others(flags: Flags) -> None:
    base = flags.make("base", having("exact", "pro", "plan"))
    test = flags.make("test", {"rollout_percentage": 100}, multivariate=variants(0, 100))
    middle = flags.make("middle", depending(base, True))
    flags.make("top", depending(middle, True))
    flags.make("without", depending(base, False))
    flags.make("second", depending(test, "v2"))
    flags.make("first", depending(test, "v1"))
    others = {"test": "v2", "second": True, "first": False}

    on = {"base": True, "middle": True, "top": True, "without": False, **others}
    off = {"base": False, "middle": False, "top": False, "without": True, **others}
    assert flags.of(person_properties={"plan": "pro"}) == on
    assert flags.of() == off
    assert flags.of(flag_keys_to_evaluate=["top"], person_properties={"plan": "pro"}) == {"top": True}


def test_a_flag_that_depends_on_nothing_that_is_there_is_off_and_says_so(flags: Flags) -> None:
    flags.make("lost", depending(999, True))
    flags.make("fine", {})

    found = flags.ask()["flags"]
    assert (found["lost"]["enabled"], found["lost"]["reason"]["code"]) == (False, "missing_dependency")
    assert found["fine"]["enabled"] is True


def test_who_enrolled_in_early_access_is_in_whatever_the_conditions_say(flags: Flags) -> None:
    enrolled = {"key": "$feature_enrollment/early", "type": "person", "operator": "exact", "value": ["true"]}
    flags.make("early", {"rollout_percentage": 0}, super_groups=[{"properties": [enrolled], "rollout_percentage": 100}])
    flags.make(
        "open", {"rollout_percentage": 100}, super_groups=[{"properties": [enrolled], "rollout_percentage": 100}]
    )

    joined = flags.ask(person_properties={"$feature_enrollment/early": "true"})["flags"]["early"]
    assert (joined["enabled"], joined["reason"]["code"]) == (True, "super_condition_value")
    assert flags.of(person_properties={"$feature_enrollment/early": "false"}) == {"early": False, "open": False}
    assert flags.of() == {"early": False, "open": True}


def test_a_holdout_keeps_its_share_out_of_every_variant(flags: Flags) -> None:
    flags.make(
        "test",
        {"rollout_percentage": 100},
        multivariate=variants(50, 50),
        holdout={"id": 7, "exclusion_percentage": 50},
    )

    found = [flags.ask(f"u{number}")["flags"]["test"] for number in range(40)]
    assert {entry["variant"] for entry in found} == {"holdout-7", "v1", "v2"}
    codes = {entry["variant"]: entry["reason"]["code"] for entry in found}
    assert codes == {"holdout-7": "holdout_condition_value", "v1": "condition_match", "v2": "condition_match"}


# ---------------------------------------------------------------------------------------------- what is asked and how


def test_the_agent_decides_which_flags_are_evaluated(flags: Flags) -> None:
    for runtime in ("all", "server", "client"):
        flags.make(runtime, {}, flag={"evaluation_runtime": runtime})
    browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36"

    assert set(flags.of(agent="posthog-python/7.0.0")) == {"all", "server"}
    assert set(flags.of(agent="python-requests/2.32")) == {"all", "server"}
    assert set(flags.of(agent="curl/8.0")) == {"all", "server"}
    assert set(flags.of(agent=browser)) == {"all", "client"}
    assert set(flags.of(agent="something-of-mine/1.0")) == {"all"}


def test_only_asked_and_active_flags_of_the_project_are_answered(flags: Flags) -> None:
    flags.make("one", {})
    flags.make("two", {})
    flags.make("off", {}, flag={"active": False})
    gone = flags.make("gone", {})
    assert flags.api("PATCH", f"feature_flags/{gone}/", {"deleted": True}).status_code == 200

    assert flags.of() == {"one": True, "two": True}
    assert flags.of(flag_keys_to_evaluate=["two", "unknown"]) == {"two": True}
    assert flags.of(flag_keys_to_evaluate=[]) == {}
    assert flags.of(disable_flags=True) == {}


def test_older_sdks_get_values_and_payloads_apart(flags: Flags) -> None:
    flags.make("plain", {}, payloads={"true": "7"})
    flags.make("test", {}, multivariate=variants(100))
    flags.make("none", {"rollout_percentage": 0})

    found = flags.ask(query="v=1")
    assert found["featureFlags"] == {"plain": True, "test": "v1", "none": False}
    assert found["featureFlagPayloads"] == {"plain": "7"}
    assert found["errorsWhileComputingFlags"] is False
    assert set(flags.ask(query="v=4")["flags"]) == {"plain", "test", "none"}


def test_the_configuration_comes_when_it_is_asked_for(flags: Flags) -> None:
    flags.make("plain", {})

    assert "supportedCompression" not in flags.ask()
    found = flags.ask(query="v=2&config=true")
    assert found["flags"]["plain"]["enabled"] is True
    assert "gzip" in found["supportedCompression"]
    assert found["hasFeatureFlags"] is True


def test_a_project_over_its_quota_of_flags_gets_none_and_is_told(flags: Flags) -> None:
    flags.make("plain", {})
    assert flags.api("PATCH", "", {"quota_limited": ["feature_flags"]}).status_code == 200

    found = flags.ask()
    assert (found["flags"], found["quotaLimited"]) == ({}, ["feature_flags"])
    assert flags.api("GET", "feature_flags/local_evaluation/").status_code == 402


def test_a_request_without_a_person_or_a_token_is_refused(flags: Flags) -> None:
    url = f"{flags.project.url}/flags/?v=2"
    token = flags.project.project_api_key

    assert requests.post(url, json={"api_key": token}, timeout=HANG).status_code == 400
    assert requests.post(url, json={"api_key": token, "distinct_id": ""}, timeout=HANG).status_code == 400
    assert requests.post(url, json={"distinct_id": "ada"}, timeout=HANG).status_code == 401
    assert requests.post(url, json={"api_key": "phc_no", "distinct_id": "ada"}, timeout=HANG).status_code == 401
    assert requests.post(url, json=["x"], timeout=HANG).status_code == 400
    assert requests.post(url, data=b"{", timeout=HANG).status_code == 400
    assert flags.raw(flag_keys_to_evaluate="one").status_code == 400
    assert flags.ask("ada", api_key=None, token=token)["flags"] == {}


# --------------------------------------------------------------------------------------------------- definitions


def test_definitions_for_local_evaluation_come_once_until_they_change(flags: Flags) -> None:
    flags.capture("seen", "ada", **{"$groups": {"company": "acme"}})
    flags.make("plain", {"rollout_percentage": 30})
    paths = [
        f"{flags.project.url}/flags/definitions?token={flags.project.project_api_key}&send_cohorts",
        f"{flags.project.url}/api/feature_flag/local_evaluation/?token={flags.project.project_api_key}&send_cohorts",
        f"{flags.project.url}/api/projects/{flags.project.project_id}/feature_flags/local_evaluation/?send_cohorts",
    ]
    key = {"Authorization": f"Bearer {flags.project.personal_api_key}"}

    answers = [requests.get(path, headers=key, timeout=HANG) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    body = answers[0].json()
    assert all(answer.json() == body for answer in answers)
    assert [flag["key"] for flag in body["flags"]] == ["plain"]
    assert body["flags"][0]["filters"]["groups"] == [{"rollout_percentage": 30}]
    assert body["group_type_mapping"] == {"0": "company"}

    tag = {**key, "If-None-Match": answers[0].headers["ETag"]}
    again = requests.get(paths[0], headers=tag, timeout=HANG)
    assert (again.status_code, again.content) == (304, b"")
    flags.make("other", {})
    assert requests.get(paths[0], headers=tag, timeout=HANG).status_code == 200
    assert requests.get(paths[0], timeout=HANG).status_code == 401


def test_cohorts_of_flags_are_sent_along_when_asked_for(flags: Flags) -> None:
    plan = {"key": "plan", "type": "person", "operator": "exact", "value": ["pro"]}
    filters = {"properties": {"type": "OR", "values": [{"type": "AND", "values": [plan]}]}}
    cohort = flags.api("POST", "cohorts/", {"name": "Pro", "filters": filters}).json()["id"]
    entry = {"key": "id", "type": "cohort", "value": cohort, "operator": "in"}
    flags.make("pro", {"properties": [entry]})

    with_cohorts = flags.api("GET", "feature_flags/local_evaluation/?send_cohorts").json()
    assert list(with_cohorts["cohorts"]) == [str(cohort)]
    assert with_cohorts["flags"][0]["filters"]["groups"][0]["properties"][0]["type"] == "cohort"
    without = flags.api("GET", "feature_flags/local_evaluation/").json()
    assert without["cohorts"] == {}
    assert without["flags"][0]["filters"]["groups"][0]["properties"][0]["key"] == "plan"


def test_remote_config_is_the_payload_of_a_flag_by_key_or_number(flags: Flags) -> None:
    id = flags.make("config", {}, payloads={"true": '{"a": 1}'}, flag={"is_remote_configuration": True})

    for name in ("config", str(id)):
        answer = flags.api("GET", f"feature_flags/{name}/remote_config?token={flags.project.project_api_key}")
        assert (answer.status_code, json.loads(answer.json())) == (200, {"a": 1})
    assert flags.api("GET", "feature_flags/unknown/remote_config").status_code == 404


def test_what_each_flag_is_for_somebody_can_be_asked_with_the_reason(flags: Flags) -> None:
    flags.capture("seen", "ada", **{"$groups": {"company": "acme"}})
    flags.make("plain", {})
    flags.make("firm", {}, aggregation_group_type_index=0)

    def reasons(query: str) -> Any:
        return flags.api("GET", f"feature_flags/evaluation_reasons/?{query}")

    found = reasons("distinct_id=ada").json()
    assert found["plain"] == {"value": True, "evaluation": {"reason": "condition_match", "condition_index": 0}}
    assert found["firm"]["evaluation"]["reason"] == "no_group_type"
    assert reasons('distinct_id=ada&groups={"company":"acme"}').json()["firm"]["value"] is True
    assert reasons("").status_code == 400
    assert reasons("distinct_id=ada&groups=x").status_code == 400


def test_a_version_of_flags_that_is_not_there_is_refused(flags: Flags) -> None:
    answer = flags.raw(query="v=9")

    assert (answer.status_code, answer.json()["attr"]) == (400, "v")


def test_a_flag_that_cannot_be_is_refused_with_its_field(flags: Flags) -> None:
    flags.make("taken", {})
    bodies = [
        ({"name": "no key"}, "key"),
        ({"key": "taken"}, "key"),
        ({"key": "a", "filters": []}, "filters"),
        ({"key": "a", "filters": {"groups": [{"rollout_percentage": 101}]}}, "filters"),
        ({"key": "a", "filters": {"groups": [having("resembles", 1)]}}, "filters"),
        ({"key": "a", "filters": {"groups": [], "multivariate": variants(50, 20)}}, "filters"),
        ({"key": "a", "filters": {"groups": [], "payloads": {"v1": "1"}}}, "filters"),
        ({"key": "a", "evaluation_runtime": "moon"}, "evaluation_runtime"),
        ({"key": "a", "active": "yes"}, "active"),
    ]
    for body, attr in bodies:
        answer = flags.api("POST", "feature_flags/", body)
        assert (answer.status_code, answer.json()["type"], answer.json()["attr"]) == (400, "validation_error", attr)
    assert flags.api("GET", "feature_flags/").json()["count"] == 1
