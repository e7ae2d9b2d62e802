"""Driver and embedded PostHog together: what somebody who knows nothing finds out, and who is let in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver import (
    AuthenticationError,
    ConnectionError,
    ObjectNotFoundError,
    PostHogClient,
    PostHogConfig,
    ValidationError,
)
from posthog_driver.local import LocalPostHog
from posthog_driver.testing import FakeClock

Ask = Callable[[], Any]

INFORMATION = {f"system.information_schema.{name}" for name in ("tables", "columns", "relationships")}
TABLES = {"events", "persons", "sessions", "groups", "cohort_people", "person_distinct_ids"} | INFORMATION
ENTITIES = {"cohorts", "insights", "dashboards", "feature_flags", "experiments", "annotations", "surveys", "actions"}
LINKS = {"lazy_table", "virtual_table", "field_traverser"}
# What PostHog calls a field's type -> how ClickHouse may call the column that a query of it has.
CLICKHOUSE = {
    "string": ("String", "UUID"),
    "json": ("String",),
    "datetime": ("DateTime",),
    "integer": ("Int", "UInt"),
    "numeric": ("Float64",),
    "float": ("Float64",),
    "boolean": ("Bool", "UInt8"),
    "array": ("Array(",),
}


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


def test_every_table_and_entity_is_listed_once(client: PostHogClient) -> None:
    found = client.list_objects()

    assert client.schema_source == "live"
    assert len(found) == len(set(found))
    assert set(found) >= TABLES | ENTITIES
    assert found[0] == "events"


def test_every_field_of_every_object_says_its_type_and_what_it_is(client: PostHogClient) -> None:
    for name in client.list_objects():
        fields = client.get_fields(name)
        assert fields, name
        for field, facts in fields.items():
            assert facts["type"], (name, field)
            assert facts["description"], (name, field)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_query_of_all_fields_that_a_table_is_said_to_have_works_and_has_their_types(
    client: PostHogClient, table: str
) -> None:
    fields = {name: facts for name, facts in client.get_fields(table).items() if facts["type"] not in LINKS}

    rows = client.query(f"SELECT {', '.join(fields)} FROM {table} LIMIT 5")

    assert len(rows.columns) == len(fields)
    for (name, facts), kind in zip(fields.items(), rows.types, strict=True):
        bare = kind.removeprefix("Nullable(")
        assert bare.startswith(CLICKHOUSE[facts["type"]]), (name, facts["type"], kind)


def test_the_links_of_a_table_lead_to_the_fields_of_the_table_that_they_name(client: PostHogClient) -> None:
    for table in sorted(TABLES):
        for link, facts in client.get_fields(table).items():
            if facts["type"] == "lazy_table":
                aim = client.get_fields(facts["table"])
                field = next(name for name, there in aim.items() if there["type"] == "string")
                assert client.query(f"SELECT {link}.{field} AS found FROM {table} LIMIT 1").columns == ["found"]


@pytest.mark.parametrize("entity", sorted(ENTITIES - {"surveys", "actions"}))
def test_the_fields_of_an_entity_are_keys_of_what_the_api_answers(client: PostHogClient, entity: str) -> None:
    path = f"/api/projects/{client.project_id}/{entity}/"
    first = client.request(path)["results"][0]
    if entity == "dashboards":  # a list of them comes without their tiles
        first = client.request(f"{path}{first['id']}/")

    assert set(client.get_fields(entity)) <= set(first)


def test_the_events_that_the_field_allows_are_those_that_happened(client: PostHogClient) -> None:
    names = client.get_fields("events")["event"]["constraints"]["values"]
    rows = client.query("SELECT DISTINCT event FROM events LIMIT 1000")

    assert sorted(names) == sorted(row["event"] for row in rows)


def test_properties_that_were_seen_stand_among_the_fields_of_their_owner(client: PostHogClient) -> None:
    assert client.get_fields("events")["properties.$browser"] == {
        "type": "string",
        "description": "Name of the browser",
    }
    assert client.get_fields("events")["properties['$feature/signup-form']"]["type"] == "string"
    assert client.get_fields("persons")["properties.is_paying"]["type"] == "boolean"
    assert "People who work there" in client.get_fields("groups")["properties.employees"]["description"]


def test_callers_get_copies(client: PostHogClient) -> None:
    client.list_objects().clear()
    fields = client.get_fields("events")
    fields["event"]["constraints"]["values"].clear()
    fields.clear()

    assert "events" in client.list_objects()
    assert client.get_fields("events")["event"]["constraints"]["values"]


def test_an_unknown_object_gets_the_nearest_names(client: PostHogClient) -> None:
    with pytest.raises(ObjectNotFoundError, match="Did you mean 'events'") as caught:
        client.get_fields("evnts")
    assert "static core" not in str(caught.value)
    with pytest.raises(ObjectNotFoundError, match="Did you mean 'events'"):
        client.get_fields("Events")


@pytest.mark.parametrize("name", ["", "  ", None, 5])
def test_a_name_that_is_none_is_refused(client: PostHogClient, name: Any) -> None:
    with pytest.raises(ValidationError):
        client.get_fields(name)


def test_the_schema_in_sql_lists_the_same_columns(client: PostHogClient) -> None:
    rows = client.query(
        "SELECT column_name FROM system.information_schema.columns WHERE table_name = {table} LIMIT 1000",
        {"table": "sessions"},
    )
    fields = client.get_fields("sessions")

    assert {row["column_name"] for row in rows} <= set(fields)


def test_the_schema_is_static_once_the_server_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    with LocalPostHog(events=0) as local:
        before = local.client(clock=FakeClock())
        late = local.client(clock=FakeClock())
        live = before.list_objects()
    assert before.schema_source == "live"

    assert before.list_objects() == live
    assert before.schema_source == "live"
    with caplog.at_level(logging.WARNING, "posthog_driver.schema"):
        assert "events" in late.list_objects()
    assert late.schema_source == "static"
    assert "static core" in caplog.text
    assert late.get_fields("events")["event"]["type"] == "string"
    with pytest.raises(ObjectNotFoundError, match="Only the static table was asked"):
        late.get_fields("cohort_people")
    with pytest.raises(ConnectionError):
        late.list_objects(refresh=True)
    assert late.health_check() is False


# Who is let in ------------------------------------------------------------------------------------------------------


def test_a_client_takes_everything_from_the_environment(
    local_posthog: LocalPostHog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", f"{local_posthog.personal_api_key}\n")
    monkeypatch.setenv("POSTHOG_PROJECT_ID", str(local_posthog.project_id))
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", local_posthog.project_api_key)
    monkeypatch.setenv("POSTHOG_API_URL", f"{local_posthog.url}/")

    with PostHogClient() as client:
        assert client.capture_url == local_posthog.url
        assert client.health_check() is True
        assert client.query("SELECT 1 AS one") == [{"one": 1}]
        assert client.evaluate_flag("signup-form", "somebody")["enabled"] is True
    with PostHogClient(PostHogConfig.from_env(overrides={"project_id": "@current"})) as client:
        assert client.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_wrong_key_is_an_authentication_error_everywhere_but_at_the_ingestion_host(
    local_posthog: LocalPostHog,
) -> None:
    with local_posthog.client(api_key="phx_wrong") as client:
        asks: list[Ask] = [client.list_objects, client.get_project_info, client.get_cohorts, client.get_persons]
        for ask in asks:
            with pytest.raises(AuthenticationError, match="POSTHOG_PERSONAL_API_KEY") as caught:
                ask()
            assert (caught.value.status, caught.value.attempts) == (401, 1)
            assert "phx_wrong" not in str(caught.value)
        with pytest.raises(AuthenticationError):
            client.query("SELECT 1")
        assert client.health_check() is False
        assert client.evaluate_flag("signup-form", "somebody")["enabled"] is True


def test_a_wrong_token_is_an_authentication_error_of_capture_and_flags_alone(local_posthog: LocalPostHog) -> None:
    with local_posthog.client(project_api_key="phc_wrong") as client:
        assert client.health_check() is True
        asks: list[Ask] = [
            lambda: client.capture_event("e", "u"),
            lambda: client.capture_batch([{"event": "e", "distinct_id": "u"}]),
            lambda: client.evaluate_flag("signup-form", "u"),
        ]
        for ask in asks:
            with pytest.raises(AuthenticationError, match="POSTHOG_PROJECT_API_KEY"):
                ask()


def test_another_project_does_not_exist(local_posthog: LocalPostHog) -> None:
    with local_posthog.client(project_id=99) as client:
        asks: list[Ask] = [client.list_objects, client.get_project_info, lambda: client.query("SELECT 1")]
        for ask in asks:
            with pytest.raises(ObjectNotFoundError, match=r"Project not found\.") as caught:
                ask()
            assert (caught.value.status, caught.value.attempts) == (404, 1)
        assert client.health_check() is False


def test_the_project_says_its_name_time_zone_and_token(client: PostHogClient, local_posthog: LocalPostHog) -> None:
    info = client.get_project_info()

    assert (info["id"], info["timezone"]) == (local_posthog.project_id, "UTC")
    assert info["api_token"] == local_posthog.project_api_key
    assert client.request("/api/users/@me/")["team"]["id"] == info["id"]


def test_an_endpoint_that_does_not_exist_is_an_error_and_a_path_that_is_none_is_not_sent(client: PostHogClient) -> None:
    with pytest.raises(ObjectNotFoundError):
        client.request("/api/nothing/")
    with pytest.raises(ValidationError):
        client.request("http://127.0.0.1/api/")
