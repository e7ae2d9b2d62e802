"""Discovery: what exists and what it is made of, from the live project where it can be had."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from posthog_driver import schema as schema_module
from posthog_driver._models import ApiRequest
from posthog_driver.endpoints import Runner
from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    CircuitBreakerOpen,
    ConnectionError,
    ObjectNotFoundError,
    PostHogError,
    QueryTimeoutError,
    RateLimitError,
    ResponseFormatError,
    TimeoutError,
    ValidationError,
)
from posthog_driver.schema import CORE, Schema
from posthog_driver.testing import FakeClock

EVENTS = {
    "id": "events",
    "name": "events",
    "type": "posthog",
    "fields": {
        "event": {"name": "event", "hogql_value": "event", "type": "string", "schema_valid": True},
        "timestamp": {"name": "timestamp", "hogql_value": "timestamp", "type": "datetime", "schema_valid": True},
        "person": {"name": "person", "hogql_value": "person", "type": "lazy_table", "table": "persons"},
        "odd name": {"name": "odd name", "hogql_value": "`odd name`", "type": "array"},
        "broken": "not a field",
    },
}
SESSIONS = {"fields": {"session_id": {"type": "string"}, "$session_duration": {"type": "integer"}}}
TABLES = {"events": EVENTS, "sessions": SESSIONS, "stripe_invoice": {"fields": {"amount": {}}}, "Zed": None}


def definitions(*items: Any, more: bool = False) -> dict[str, Any]:
    return {"count": len(items), "next": "https://app.example/next" if more else None, "results": list(items)}


class Project:
    """Answers what discovery asks; ``asked`` holds the requests, and an answer that is an error is raised."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.asked: list[ApiRequest] = []
        self.cancelled: list[ApiRequest] = []
        self.answers: dict[str, Any] = {
            "query": {"tables": TABLES},
            "event_definitions": definitions({"name": "$pageview"}, {"name": "signed up"}),
            "event": definitions({"name": "$browser", "property_type": "String", "description": "Of the visitor"}),
            "person": definitions({"name": "email", "property_type": None}, {"name": "it's \\ odd"}),
            "session": definitions({"name": "$session_duration", "property_type": "Numeric"}, {"name": "$entry_utm"}),
            "groups_types": [{"group_type": "company", "group_type_index": 0}, {"group_type_index": 1}],
            "group": definitions(
                {"name": "name", "property_type": "String"}, {"name": "seats", "property_type": "Numeric"}
            ),
        }
        self.schema = Schema(self.send, Runner(self.clock, self.cancelled.append, 3), "1", 100.0)

    def send(self, request: ApiRequest) -> Any:
        self.asked.append(request)
        kind = request.path.rstrip("/").rpartition("/")[2]
        answer = self.answers[(request.params or {}).get("type", kind)]
        answer = answer(request) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def paths(self) -> list[str]:
        return [request.path.removeprefix("/api/projects/1/") for request in self.asked]


@pytest.fixture
def project() -> Project:
    return Project()


class TestObjects:
    def test_are_the_well_known_ones_first_and_then_the_project_s_own(self, project: Project) -> None:
        names = project.schema.list_objects()
        assert names == [*CORE, "Zed", "stripe_invoice"]
        assert names[:2] == ["events", "persons"]
        assert project.schema.source == "live"
        (request,) = project.asked
        assert request.json["query"] == {"kind": "DatabaseSchemaQuery"}
        assert (request.method, request.path, request.scope) == ("POST", "/api/projects/1/query/", "query")

    def test_are_asked_for_once_in_five_minutes(self, project: Project) -> None:
        project.schema.list_objects()
        project.clock.advance(299.9)
        project.schema.list_objects()
        assert len(project.asked) == 1
        project.clock.advance(0.1)
        project.schema.list_objects()
        assert len(project.asked) == 2

    def test_are_asked_for_again_on_request_and_then_kept_anew(self, project: Project) -> None:
        project.schema.list_objects()
        project.clock.advance(200)
        project.answers["query"] = {"tables": {"fresh": {"fields": {}}}}
        assert "fresh" in project.schema.list_objects(refresh=True)
        project.clock.advance(200)
        assert "fresh" in project.schema.list_objects()
        assert len(project.asked) == 2

    def test_are_copies(self, project: Project) -> None:
        project.schema.list_objects().clear()
        assert len(project.schema.list_objects()) > 10


class TestWithoutTheLiveSchema:
    @pytest.mark.parametrize(
        "error",
        [
            AuthorizationError("no scope", status=403),
            ConnectionError("refused"),
            TimeoutError("silence"),
            CircuitBreakerOpen("open"),
            RateLimitError("slow down", status=429),
            QueryTimeoutError("too long", status=504),
            ResponseFormatError("a page"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_the_static_core_answers_and_says_so(
        self, error: PostHogError, project: Project, caplog: pytest.LogCaptureFixture
    ) -> None:
        project.answers["query"] = error
        assert project.schema.list_objects() == list(CORE)
        assert project.schema.source == "static"
        assert [record.levelno for record in caplog.records if record.name == "posthog_driver.schema"] == [
            logging.WARNING
        ]
        assert "static core" in caplog.text
        fields = project.schema.get_fields("events")
        assert fields["timestamp"]["type"] == "datetime"
        assert len(project.asked) == 1

    def test_one_short_attempt_is_made_and_the_failure_remembered_for_half_a_minute(self, project: Project) -> None:
        project.answers["query"] = ConnectionError("refused")
        project.schema.list_objects()
        (request,) = project.asked
        assert (request.timeout, request.max_attempts) == (2.0, 1)
        assert request.deadline == project.clock.monotonic() + 2.0
        project.clock.advance(29.9)
        project.schema.list_objects()
        project.schema.get_fields("persons")
        assert len(project.asked) == 1
        project.clock.advance(0.1)
        project.answers["query"] = {"tables": TABLES}
        assert "stripe_invoice" in project.schema.list_objects()
        assert project.schema.source == "live"

    def test_a_refresh_ends_the_memory_of_a_failure(self, project: Project) -> None:
        project.answers["query"] = ConnectionError("refused")
        project.schema.list_objects()
        project.answers["query"] = {"tables": TABLES}
        project.schema.list_objects(refresh=True)
        assert "stripe_invoice" in project.schema.list_objects()
        assert project.schema.source == "live"

    def test_a_query_that_does_not_finish_is_given_up_in_time(self, project: Project) -> None:
        running = {"query_status": {"id": "q", "complete": False}}
        project.answers.update(query=running, q=running)
        started = project.clock.monotonic()
        assert project.schema.list_objects() == list(CORE)
        assert project.clock.monotonic() - started <= 2.0
        started = project.clock.monotonic()
        with pytest.raises(TimeoutError, match="still running"):
            project.schema.list_objects(refresh=True)
        assert 2.0 < project.clock.monotonic() - started <= 100.0
        assert len(project.cancelled) == 2

    @pytest.mark.parametrize("answer", [{}, [], None, {"tables": ["events"]}])
    def test_an_answer_without_tables_is_no_schema(self, answer: Any, project: Project) -> None:
        project.answers["query"] = answer
        assert project.schema.list_objects() == list(CORE)
        with pytest.raises(ResponseFormatError, match="has no tables"):
            project.schema.list_objects(refresh=True)

    def test_a_longer_look_can_be_asked_for(self, project: Project) -> None:
        project.schema.list_objects(timeout=9.0)
        assert (project.asked[0].timeout, project.asked[0].max_attempts) == (9.0, 1)


class TestARefresh:
    @pytest.mark.parametrize("error", [AuthorizationError("no scope", status=403), ConnectionError("refused")])
    def test_raises_what_keeps_the_live_schema_away(self, error: PostHogError, project: Project) -> None:
        project.answers["query"] = error
        for ask in (project.schema.list_objects, lambda refresh: project.schema.get_fields("events", refresh=refresh)):
            with pytest.raises(type(error)):
                ask(refresh=True)

    def test_has_the_attempts_and_the_time_of_any_call(self, project: Project) -> None:
        project.schema.list_objects(refresh=True)
        project.schema.list_objects(refresh=True, timeout=5.0)
        now = project.clock.monotonic()
        assert [(request.timeout, request.max_attempts, request.deadline) for request in project.asked] == [
            (None, None, now + 100.0),
            (5.0, None, now + 100.0),
        ]

    def test_that_fails_leaves_what_is_known(self, project: Project) -> None:
        project.schema.list_objects()
        project.answers["query"] = ConnectionError("refused")
        with pytest.raises(ConnectionError):
            project.schema.list_objects(refresh=True)
        assert "stripe_invoice" in project.schema.list_objects()
        assert project.schema.source == "live"

    def test_of_fields_raises_what_keeps_the_definitions_away(self, project: Project) -> None:
        project.answers["event"] = AuthorizationError("no scope", status=403)
        with pytest.raises(AuthorizationError):
            project.schema.get_fields("events", refresh=True)

    def test_asks_for_everything_again(self, project: Project) -> None:
        for _ in range(2):
            project.schema.get_fields("events", refresh=True)
        assert project.paths() == ["query/", "property_definitions/", "event_definitions/"] * 2


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize(
    "error", [AuthenticationError("wrong key", status=401), ObjectNotFoundError("no project", status=404)]
)
def test_a_wrong_key_or_project_always_raises(error: PostHogError, refresh: bool, project: Project) -> None:
    project.answers["query"] = error
    with pytest.raises(type(error)):
        project.schema.list_objects(refresh=refresh)
    with pytest.raises(type(error)):
        project.schema.get_fields("events", refresh=refresh)


class TestFields:
    def test_of_events_join_columns_properties_and_event_names(self, project: Project) -> None:
        fields = project.schema.get_fields("events")
        assert fields["event"] == {
            "type": "string",
            "description": "Name of the event, such as $pageview",
            "constraints": {"values": ["$pageview", "signed up"]},
        }
        assert fields["person"]["table"] == "persons"
        assert fields["odd name"] == {
            "type": "array",
            "description": "array column of events",
            "hogql": "`odd name`",
        }
        assert fields["properties.$browser"] == {"type": "string", "description": "Of the visitor"}
        assert "broken" not in fields
        assert list(fields) == ["event", "timestamp", "person", "odd name", "properties.$browser"]

    def test_of_events_without_their_names_are_those_of_the_table(self, project: Project) -> None:
        project.answers["query"] = {"tables": {"events": {"fields": None}}}
        assert list(project.schema.get_fields("events")) == ["properties.$browser"]

    def test_of_persons_have_the_paths_that_hogql_reads(self, project: Project) -> None:
        fields = project.schema.get_fields("persons")
        assert fields["properties.email"]["type"] == "string"
        assert fields["properties['it\\'s \\\\ odd']"]["description"] == "Person property seen in this project"

    def test_of_sessions_are_its_columns_and_the_table_s_word_stands(self, project: Project) -> None:
        fields = project.schema.get_fields("sessions")
        assert fields["$session_duration"] == {
            "type": "integer",
            "description": "Seconds between first and last event",
        }
        assert fields["$entry_utm"]["description"] == "Session property seen in this project"

    def test_of_groups_have_their_properties(self, project: Project) -> None:
        fields = project.schema.get_fields("groups")
        assert "text that holds" not in fields["properties.name"]["description"]
        assert fields["properties.seats"]["type"] == "string"
        assert "text that holds numeric" in fields["properties.seats"]["description"]
        asked = [request.params or {} for request in project.asked if "property_definitions" in request.path]
        assert [(params["type"], params["group_type_index"]) for params in asked] == [("group", 0), ("group", 1)]

    def test_of_a_table_of_the_project_s_own_need_no_definitions(self, project: Project) -> None:
        assert project.schema.get_fields("stripe_invoice") == {
            "amount": {"type": "unknown", "description": "unknown column of stripe_invoice"}
        }
        assert project.schema.get_fields("Zed") == {}
        assert project.paths() == ["query/"]

    def test_of_an_entity_are_known_though_it_is_no_table(self, project: Project) -> None:
        assert project.schema.get_fields("cohorts") == CORE["cohorts"]

    def test_all_have_a_type_and_a_description(self, project: Project) -> None:
        for name in project.schema.list_objects():
            for field, facts in project.schema.get_fields(name).items():
                assert facts["type"], (name, field)
                assert facts["description"], (name, field)

    def test_are_asked_for_once_in_five_minutes(self, project: Project) -> None:
        for _ in range(3):
            project.schema.get_fields("events")
        assert project.paths() == ["query/", "property_definitions/", "event_definitions/"]

    def test_are_copies(self, project: Project) -> None:
        for source in ("live", "static"):
            for _ in range(2):
                fields = project.schema.get_fields("events")
                assert fields["timestamp"]["type"] == "datetime"
                fields["timestamp"].clear()
                if source == "live":
                    fields["event"]["constraints"]["values"].append("invented")
                    fields["properties.$browser"]["type"] = "changed"
            again = project.schema.get_fields("events")
            assert again["event"].get("constraints", {}).get("values") in (None, ["$pageview", "signed up"])
            assert again.get("properties.$browser", {"type": "string"})["type"] == "string"
            project.clock.advance(300)
            project.answers["query"] = ConnectionError("refused")

    @pytest.mark.parametrize("name", ["", "  ", None, 5, ["events"]])
    def test_need_a_name(self, name: Any, project: Project) -> None:
        with pytest.raises(ValidationError, match="needs the name of an object"):
            project.schema.get_fields(name)
        assert project.asked == []


class TestAnUnknownObject:
    def test_is_an_error_with_the_nearest_names(self, project: Project) -> None:
        with pytest.raises(ObjectNotFoundError) as caught:
            project.schema.get_fields("event")
        message = str(caught.value)
        assert "get_fields('event'): no such object. Did you mean 'events'?" in message
        assert "static" not in message
        assert message.count("sessions") == 1

    def test_is_told_apart_by_case(self, project: Project) -> None:
        with pytest.raises(ObjectNotFoundError, match="Did you mean 'events'"):
            project.schema.get_fields("Events")

    def test_says_when_only_the_static_table_was_asked(self, project: Project) -> None:
        project.answers["query"] = ConnectionError("refused")
        with pytest.raises(ObjectNotFoundError, match="Only the static table was asked"):
            project.schema.get_fields("stripe_invoice")

    def test_far_from_any_name_lists_what_there_is_and_how_much_more(self, project: Project) -> None:
        project.answers["query"] = {"tables": {f"table_{number}": {} for number in range(30)}}
        with pytest.raises(ObjectNotFoundError, match=rf"and {len(CORE) + 30 - 20} more\.$") as caught:
            project.schema.get_fields("qqqqqq")
        assert "Did you mean" not in str(caught.value)


class TestDefinitions:
    def test_that_cannot_be_had_leave_the_columns_and_a_warning(
        self, project: Project, caplog: pytest.LogCaptureFixture
    ) -> None:
        project.answers["event"] = AuthorizationError("no scope", status=403)
        fields = project.schema.get_fields("events")
        assert fields["event"]["constraints"] == {"values": ["$pageview", "signed up"]}
        assert not any(name.startswith("properties.") for name in fields)
        assert "property_definitions cannot be had" in caplog.text
        assert project.schema.source == "live"

    def test_that_failed_are_not_asked_for_again_at_once(self, project: Project) -> None:
        project.answers["event"] = AuthorizationError("no scope", status=403)
        project.schema.get_fields("events")
        asked = len(project.paths())
        project.schema.get_fields("events")
        assert len(project.paths()) == asked
        project.clock.advance(30)
        project.schema.get_fields("events")
        assert len(project.paths()) == asked + 1
        with pytest.raises(AuthorizationError):
            project.schema.get_fields("events", refresh=True)

    def test_that_are_empty_constrain_nothing(self, project: Project) -> None:
        project.answers["event_definitions"] = definitions()
        assert "constraints" not in project.schema.get_fields("events")["event"]

    def test_behind_a_wrong_key_raise(self, project: Project) -> None:
        project.answers["event_definitions"] = AuthenticationError("revoked", status=401)
        with pytest.raises(AuthenticationError):
            project.schema.get_fields("events")

    @pytest.mark.parametrize("answer", [5, {"results": None}, {"results": ["no definition"]}, None])
    def test_of_another_shape_are_left_out_with_a_warning(
        self, answer: Any, project: Project, caplog: pytest.LogCaptureFixture
    ) -> None:
        project.answers["event"] = answer
        project.schema.get_fields("events")
        assert "has no list of results" in caplog.text

    def test_are_read_page_by_page_and_only_from_our_own_paths(self, project: Project) -> None:
        def page(request: ApiRequest) -> Any:
            assert request.params is not None
            offset = request.params["offset"]
            return definitions(*[{"name": f"event {offset + number}"} for number in range(500)], more=offset < 1_000)

        project.answers["event_definitions"] = page
        fields = project.schema.get_fields("events", timeout=7.0)
        assert fields["event"]["constraints"]["values"] == [f"event {number}" for number in range(1_500)]
        pages = [request for request in project.asked if "event_definitions" in request.path]
        assert [(request.params, request.timeout) for request in pages] == [
            ({"limit": 500, "offset": offset}, 7.0) for offset in (0, 500, 1_000)
        ]
        assert {request.path for request in pages} == {"/api/projects/1/event_definitions/"}

    def test_end_with_a_page_that_is_empty(self, project: Project) -> None:
        project.answers["event_definitions"] = definitions(more=True)
        project.schema.get_fields("events")
        assert project.paths().count("event_definitions/") == 1

    def test_beyond_the_most_that_is_read_are_left_out_with_a_warning(
        self, project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(schema_module, "_MOST_DEFINITIONS", 1_500)
        project.answers["event_definitions"] = definitions(*[{"name": "again"}] * 500, more=True)
        fields = project.schema.get_fields("events")
        assert len(fields["event"]["constraints"]["values"]) == 1_500
        assert project.paths().count("event_definitions/") == 3
        assert "1500 entries or more; the rest is left out" in caplog.text
