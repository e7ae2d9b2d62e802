"""The store of the embedded PostHog's REST entities."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.local.entities import KINDS, Entity, EntityStore, PropertyKey, insight_type
from posthog_driver.local.errors import ApiError
from posthog_driver.local.kinds import flag_status
from posthog_driver.local.wire import Request


def names(found: list[Entity]) -> list[str]:
    return [entity["name"] for entity in found]


def asked(query: str = "") -> Request:
    return Request.parse("GET", f"/x/?{query}")


@pytest.fixture
def store() -> EntityStore:
    return EntityStore({})


def refusal(store: EntityStore, kind: str, body: dict[str, Any]) -> tuple[int, str, str | None]:
    with pytest.raises(ApiError) as caught:
        store.create(kind, body)
    return caught.value.status, caught.value.code, caught.value.attr


def test_a_new_entity_gets_a_number_defaults_and_an_author(store: EntityStore) -> None:
    first = store.create("dashboards", {"name": "One"})
    second = store.create("dashboards", {"name": "Two", "pinned": True, "id": 99, "made_up": 1})

    assert (first["id"], second["id"]) == (1, 2)
    assert (first["pinned"], second["pinned"]) == (False, True)
    assert first["created_by"]["email"] == "local@posthog.test"
    assert first["created_at"].endswith("Z")
    assert "made_up" not in second


def test_a_new_insight_has_a_short_id_and_a_new_survey_a_uuid(store: EntityStore) -> None:
    assert len(store.create("insights", {})["short_id"]) == 8
    assert len(store.create("surveys", {"name": "NPS", "type": "api"})["id"]) == 36


def test_the_defaults_of_one_entity_are_not_shared_with_the_next(store: EntityStore) -> None:
    store.create("dashboards", {"name": "One"})["tags"].append("spoilt")

    assert store.create("dashboards", {"name": "Two"})["tags"] == []
    assert KINDS["dashboards"].defaults["tags"] == []


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("dashboards", {}, (400, "required", "name")),
        ("dashboards", {"name": " "}, (400, "blank", "name")),
        ("dashboards", {"name": None}, (400, "invalid_input", "name")),
        ("dashboards", {"name": 3}, (400, "invalid_input", "name")),
        ("dashboards", {"name": "x", "pinned": "yes"}, (400, "invalid_input", "pinned")),
        ("dashboards", {"name": "x", "filters": []}, (400, "invalid_input", "filters")),
        ("dashboards", {"name": "x", "tags": {}}, (400, "invalid_input", "tags")),
        ("feature_flags", {"name": "x"}, (400, "required", "key")),
        ("annotations", {}, (400, "required", "content")),
        ("cohorts", {"name": "x", "filters": {"properties": {"type": "XOR", "values": []}}},
         (400, "invalid_input", "filters")),
        ("cohorts", {"name": "x", "filters": {"properties": [{"type": "cohort", "key": "id", "value": 9}]}},
         (400, "invalid_input", "filters")),
        ("insights", {"order": "first"}, (400, "invalid_input", "order")),
        ("surveys", {"name": "x", "type": "smoke"}, (400, "invalid_choice", "type")),
        ("experiments", {"name": "x", "feature_flag_key": "y", "start_date": "soon"},
         (400, "invalid_input", "start_date")),
        ("annotations", {"content": "x", "dashboard_item": 9}, (400, "does_not_exist", "dashboard_item")),
        ("feature_flags", {"key": "x", "filters": {"groups": 3}}, (400, "invalid_input", "filters")),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused_by_name(
    store: EntityStore, kind: str, body: dict[str, Any], expected: tuple[int, str, str | None]
) -> None:
    assert refusal(store, kind, body) == expected


def test_two_flags_cannot_share_a_key_but_a_deleted_one_frees_it(store: EntityStore) -> None:
    flag = store.create("feature_flags", {"key": "beta"})

    assert refusal(store, "feature_flags", {"key": "beta"}) == (400, "unique", "key")
    assert store.update("feature_flags", str(flag["id"]), {"key": "beta", "active": False})["active"] is False

    store.update("feature_flags", str(flag["id"]), {"deleted": True})
    assert store.create("feature_flags", {"key": "beta"})["id"] == 2


def test_a_deleted_entity_is_hidden_and_can_be_brought_back(store: EntityStore) -> None:
    store.create("insights", {"name": "Trend"})
    store.update("insights", "1", {"deleted": True})

    assert store.find("insights", asked()) == []
    with pytest.raises(ApiError) as caught:
        store.get("insights", "1")
    assert caught.value.status == 404

    store.update("insights", "1", {"deleted": False})
    assert names(store.find("insights", asked())) == ["Trend"]


def test_changing_or_removing_what_is_not_there_is_a_404(store: EntityStore) -> None:
    for action in (lambda: store.update("actions", "7", {}), lambda: store.delete("surveys", "7")):
        with pytest.raises(ApiError) as caught:
            action()
        assert caught.value.code == "not_found"


def test_a_survey_can_be_removed_for_good(store: EntityStore) -> None:
    survey = store.create("surveys", {"name": "NPS", "type": "api"})
    store.delete("surveys", survey["id"])

    assert store.all("surveys") == []


def test_what_a_caller_does_to_an_answer_does_not_reach_the_store(store: EntityStore) -> None:
    store.create("actions", {"name": "Click"})
    store.get("actions", "1")["name"] = "spoilt"

    assert store.get("actions", "1")["name"] == "Click"


def test_insights_are_filtered_by_type_search_and_flags(store: EntityStore) -> None:
    store.create("insights", {"name": "Uploads", "query": {"source": {"kind": "TrendsQuery"}}})
    store.create("insights", {"name": "Signups", "filters": {"insight": "FUNNELS"}, "favorited": True})
    store.create("insights", {"name": "Rows", "query": {"kind": "HogQLQuery"}, "description": "upload table"})

    assert names(store.find("insights", asked("insight=trends"))) == ["Uploads"]
    assert names(store.find("insights", asked("insight=FUNNELS"))) == ["Signups"]
    assert names(store.find("insights", asked("search=UPLOAD"))) == ["Uploads", "Rows"]
    assert names(store.find("insights", asked("favorited=true"))) == ["Signups"]
    assert names(store.find("insights", asked("short_id=" + store.get("insights", "3")["short_id"]))) == ["Rows"]
    assert names(store.find("insights", asked("created_date_to=2000-01-01"))) == []
    assert names(store.find("insights", asked("ordering=-name&unknown=1"))) == ["Uploads", "Signups", "Rows"]
    assert insight_type({"query": None}) == "JSON"


def test_annotations_are_filtered_by_day_and_text(store: EntityStore) -> None:
    for day in ("01", "02", "03"):
        store.create("annotations", {"content": f"Release {day}", "date_marker": f"2026-01-{day}T12:00:00Z"})

    def contents(query: str) -> list[str]:
        return [entity["content"][-2:] for entity in store.find("annotations", asked(query))]

    assert contents("date_from=2026-01-02") == ["02", "03"]
    assert contents("date_to=2026-01-02") == ["01", "02"]
    assert contents("date_from=2026-01-02&date_to=2026-01-02") == ["02"]
    assert contents("search=release%2003") == ["03"]


def test_flags_are_filtered_by_type_and_state(store: EntityStore) -> None:
    store.create("feature_flags", {"key": "plain", "name": "plain"})
    store.create("feature_flags", {"key": "off", "name": "off", "active": False})
    store.create("feature_flags", {"key": "multi", "name": "multi", "filters": {"multivariate": {"variants": []}}})
    store.create("feature_flags", {"key": "test", "name": "test"}, more={"experiment_set": [1]})

    assert names(store.find("feature_flags", asked("active=false"))) == ["off"]
    assert names(store.find("feature_flags", asked("type=boolean"))) == ["plain", "off"]
    assert names(store.find("feature_flags", asked("type=multivariant"))) == ["multi"]
    assert names(store.find("feature_flags", asked("type=experiment"))) == ["test"]


def test_definitions_are_learnt_once_and_listed_by_owner(store: EntityStore) -> None:
    news = {
        ("event", "price", None): "Numeric",
        ("person", "email", None): "String",
        ("group", "size", 1): "Numeric",
    }
    store.learn(["paid", "$pageview", "paid"], news)
    store.learn(["paid"], {("event", "price", None): "String"})

    assert names(store.find("event_definitions", asked())) == ["paid", "$pageview"]
    assert names(store.find("event_definitions", asked("event_type=event_custom"))) == ["paid"]
    assert names(store.find("event_definitions", asked("event_type=event_posthog"))) == ["$pageview"]
    assert names(store.find("event_definitions", asked("names=paid,other"))) == ["paid"]
    assert names(store.find("event_definitions", asked("ordering=name"))) == ["$pageview", "paid"]
    assert names(store.find("property_definitions", asked())) == ["price"]
    assert names(store.find("property_definitions", asked("type=person"))) == ["email"]
    assert names(store.find("property_definitions", asked("type=group&group_type_index=1"))) == ["size"]
    assert names(store.find("property_definitions", asked('excluded_properties=["price"]'))) == []
    assert names(store.find("property_definitions", asked("is_numerical=true&exclude_hidden=true"))) == ["price"]
    assert store.catalog().property_type("event", "price") == "Numeric"
    with pytest.raises(ApiError) as caught:
        store.find("property_definitions", asked("excluded_properties=price"))
    assert caught.value.attr == "excluded_properties"


def test_a_hidden_definition_can_be_left_out(store: EntityStore) -> None:
    store.learn(["paid"], {})
    store.update("event_definitions", store.all("event_definitions")[0]["id"], {"hidden": True, "name": "no"})

    assert names(store.find("event_definitions", asked())) == ["paid"]
    assert store.find("event_definitions", asked("exclude_hidden=true")) == []


def test_the_sixth_group_type_has_no_index(store: EntityStore) -> None:
    assert [store.group_index(name) for name in "abcaef"] == [0, 1, 2, 0, 3, 4]
    assert store.group_index("g") is None
    assert [entity["group_type"] for entity in store.group_types()] == ["a", "b", "c", "e", "f"]


def test_the_catalog_follows_the_entities(store: EntityStore) -> None:
    before = store.catalog()
    assert store.catalog() is before

    store.group_index("company")
    store.learn(["paid"], {})
    store.create("cohorts", {"name": "Static", "is_static": True})
    payer = {"key": "plan", "type": "person", "value": ["pro"], "operator": "exact"}
    store.create("cohorts", {"name": "Payers", "filters": {"properties": payer}})
    after = store.catalog()

    assert (before.group_types, before.event_names, before.cohorts) == ((), (), ())
    assert (after.group_types, after.event_names) == (("company",), ("paid",))
    assert [(cohort.name, cohort.condition) for cohort in after.cohorts] == [
        ("Static", None),
        ("Payers", "toString(properties.plan) = 'pro'"),
    ]


def test_a_cohort_that_hogql_cannot_say_is_unknown_to_the_translator() -> None:
    filters = {
        "properties": {
            "type": "AND",
            "values": [{"type": "behavioral", "key": "x", "value": "performed_event"}],
        }
    }
    store = EntityStore({"cohorts": [{"id": 1, "name": "Active", "is_static": False, "filters": filters}]})

    assert store.catalog().cohorts == ()
    assert store.get("cohorts", "1")["name"] == "Active"


def test_entities_survive_in_their_file_and_win_over_the_seeds(tmp_path: Path) -> None:
    path = tmp_path / "entities.json"
    first = EntityStore({"actions": [{"id": 1, "name": "Seed"}]}, path)
    first.create("actions", {"name": "Own"})
    first.group_index("company")

    again = EntityStore({"actions": []}, path)

    assert names(again.all("actions")) == ["Seed", "Own"]
    assert again.catalog().group_types == ("company",)
    assert sorted(json.loads(path.read_text())) == sorted([*KINDS, "group_types"])
    assert [file.name for file in tmp_path.iterdir()] == ["entities.json"]


def test_a_change_adds_a_line_and_opening_makes_them_one_again(tmp_path: Path) -> None:
    path = tmp_path / "entities.json"
    first = EntityStore({}, path)
    survey = first.create("surveys", {"name": "NPS", "type": "api"})
    first.create("surveys", {"name": "Other", "type": "api"})
    size = path.stat().st_size
    first.update("surveys", survey["id"], {"archived": True})
    first.delete("surveys", survey["id"])
    first.learn(["paid", "seen"], {("event", "price", None): "Numeric"})
    lines = path.read_text().split("\n")
    assert len(lines) == 8
    assert path.stat().st_size < size + 3000

    again = EntityStore({}, path)

    assert names(again.all("surveys")) == ["Other"]
    assert names(again.all("event_definitions")) == ["paid", "seen"]
    assert "\n" not in path.read_text()
    again.learn(["paid"], {("event", "price", None): "String"})
    assert "\n" not in path.read_text()


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "entities.json"
    EntityStore({}, path).create("actions", {"name": "Whole"})
    with path.open("a") as file:
        file.write('\n["actions", "2", {"id": 2, "na')

    again = EntityStore({}, path)

    assert names(again.all("actions")) == ["Whole"]
    assert again.create("actions", {"name": "Next"})["id"] == 2
    assert names(EntityStore({}, path).all("actions")) == ["Whole", "Next"]


def test_what_was_removed_is_learnt_again(store: EntityStore) -> None:
    news: dict[PropertyKey, str | None] = {("event", "price", None): "Numeric"}
    store.learn(["paid"], news)
    for kind in ("event_definitions", "property_definitions"):
        store.delete(kind, store.all(kind)[0]["id"])
    assert store.all("event_definitions") + store.all("property_definitions") == []

    store.learn(["paid"], news)
    assert names(store.all("event_definitions") + store.all("property_definitions")) == ["paid", "price"]


def test_an_event_that_was_not_seen_for_long_is_seen_again(store: EntityStore) -> None:
    store.learn(["paid"], {})
    id = store.all("event_definitions")[0]["id"]
    store.note("event_definitions", id, last_seen_at="2020-01-01T00:00:00Z")
    assert store.find("event_definitions", asked("exclude_stale=true")) == []

    store.learn(["paid"], {})

    assert store.get("event_definitions", id)["last_seen_at"] > "2026"
    assert names(store.find("event_definitions", asked("exclude_stale=true"))) == ["paid"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"deleted": True}, "DELETED"),
        ({"active": False}, "INACTIVE"),
        ({}, "STALE"),
        ({"created_at": "2026-11-01T00:00:00Z"}, "ACTIVE"),
        ({"filters": {"groups": [{"rollout_percentage": 50}]}}, "ACTIVE"),
        ({"filters": {"groups": [{"properties": [{"key": "a"}]}]}}, "ACTIVE"),
        (
            {"filters": {"groups": [{}], "multivariate": {"variants": [{"key": "a", "rollout_percentage": 100}]}}},
            "STALE",
        ),
        (
            {"filters": {"groups": [{}], "multivariate": {"variants": [{"key": "a", "rollout_percentage": 50}]}}},
            "ACTIVE",
        ),
        (
            {
                "filters": {
                    "groups": [{"variant": "a"}],
                    "multivariate": {"variants": [{"key": "a", "rollout_percentage": 50}]},
                }
            },
            "STALE",
        ),
    ],
)
def test_a_flag_that_gives_everybody_the_same_for_a_month_is_stale(change: dict[str, Any], status: str) -> None:
    everybody = {"groups": [{"properties": [], "rollout_percentage": 100}]}
    flag = {"active": True, "created_at": "2026-09-01T00:00:00Z", "filters": everybody, **change}

    assert flag_status(flag, datetime(2026, 11, 10, tzinfo=timezone.utc))[0] == status


def test_a_name_of_a_group_type_that_is_not_there_cannot_be_set(store: EntityStore) -> None:
    store.group_index("company")
    store.name_group_types([{"group_type_index": 0, "name_plural": "companies"}])

    assert store.group_types()[0]["name_plural"] == "companies"
    with pytest.raises(ApiError) as caught:
        store.name_group_types([{"group_type_index": 1, "name_plural": "x"}])
    assert caught.value.status == 404


def test_cohorts_may_not_need_each_other(store: EntityStore) -> None:
    def of(id: int) -> dict[str, Any]:
        return {"properties": {"type": "AND", "values": [{"type": "cohort", "key": "id", "value": id}]}}

    for name in ("a", "b"):
        store.create("cohorts", {"name": name})
    store.create("cohorts", {"name": "c", "filters": of(1)})
    store.update("cohorts", "2", {"filters": of(3)})

    for id, needed in (("1", 1), ("1", 2), ("1", 3)):
        with pytest.raises(ApiError) as caught:
            store.update("cohorts", id, {"filters": of(needed)})
        assert caught.value.attr == "filters"
    assert store.update("cohorts", "2", {"filters": of(1)})["filters"] == of(1)


def test_seeds_are_copied() -> None:
    seed = {"id": 1, "name": "Seed"}
    store = EntityStore({"actions": [seed]}, timezone="Europe/Berlin", week_start=1)
    store.update("actions", "1", {"name": "Changed"})

    assert seed["name"] == "Seed"
    assert (store.catalog().timezone, store.catalog().week_start) == ("Europe/Berlin", 1)
