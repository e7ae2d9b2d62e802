"""What every public method puts on the wire: verb, URL, parameters, headers and body, as PostHog documents them."""

from __future__ import annotations

import datetime
import gzip
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import responses

from posthog_driver import PostHogClient, PostHogConfig, __version__
from posthog_driver.testing import FakeClock, query_answer

APP = "https://us.posthog.com/api/projects/42"
INGESTION = "https://us.i.posthog.com"
EMPTY_PAGE: dict[str, Any] = {"count": 0, "next": None, "previous": None, "results": []}
ROWS = query_answer([[1]], ["n"])
MOMENT = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def client(fake_clock: FakeClock) -> Iterator[PostHogClient]:
    config = PostHogConfig("phx_test_key", 42, project_api_key="phc_test")
    with PostHogClient(config, clock=fake_clock) as made:
        yield made


def body_of(request: requests.PreparedRequest) -> Any:
    raw: Any = request.body
    if request.headers.get("Content-Encoding") == "gzip":
        raw = gzip.decompress(raw)
    return json.loads(raw) if raw else None


def sent(wire: responses.RequestsMock) -> list[Any]:
    return [call.request for call in wire.calls]


def only(wire: responses.RequestsMock) -> Any:
    (request,) = sent(wire)
    return request


Call = Callable[[PostHogClient], Any]

READS: list[Any] = [
    pytest.param(lambda c: c.get_project_info(), "/", {}, id="get_project_info"),
    pytest.param(lambda c: c.health_check(), "/", {}, id="health_check"),
    pytest.param(lambda c: c.get_persons(), "/persons/", {"limit": "100", "offset": "0"}, id="get_persons"),
    pytest.param(
        lambda c: c.get_persons("ann & co", properties={"plan": "pro", "email": None}, limit=5),
        "/persons/",
        {
            "search": "ann & co",
            "properties": '[{"key": "plan", "value": "pro", "operator": "exact", "type": "person"}, '
            '{"key": "email", "value": "is_not_set", "operator": "is_not_set", "type": "person"}]',
            "limit": "5",
            "offset": "0",
        },
        id="get_persons by search and properties",
    ),
    pytest.param(
        lambda c: c.get_persons(
            cohort_id=7, properties=[{"key": "a", "operator": "is_set", "type": "person"}], limit=1
        ),
        "/cohorts/7/persons/",
        {"properties": '[{"key": "a", "operator": "is_set", "type": "person"}]', "limit": "1", "offset": "0"},
        id="get_persons of a cohort",
    ),
    pytest.param(lambda c: c.get_cohorts("x"), "/cohorts/", {"limit": "100", "offset": "0"}, id="get_cohorts"),
    pytest.param(
        lambda c: c.get_insights("FUNNELS", limit=20, offset=40),
        "/insights/",
        {"insight": "FUNNELS", "basic": "true", "limit": "20", "offset": "40"},
        id="get_insights",
    ),
    pytest.param(lambda c: c.get_feature_flags(), "/feature_flags/", {"limit": "100", "offset": "0"}, id="flags"),
    pytest.param(lambda c: c.get_experiments(), "/experiments/", {"limit": "100", "offset": "0"}, id="experiments"),
    pytest.param(lambda c: c.get_annotations(), "/annotations/", {"limit": "100", "offset": "0"}, id="annotations"),
    pytest.param(
        lambda c: c.request("/api/projects/42/surveys/", params={"archived": False}),
        "/surveys/",
        {"archived": "false"},
        id="request",
    ),
]
WRITES: list[Any] = [
    pytest.param(
        lambda c: c.create_cohort("Big"),
        "/cohorts/",
        {"name": "Big", "description": "", "is_static": False},
        id="create_cohort",
    ),
    pytest.param(
        lambda c: c.create_cohort("Big", "spenders", {"properties": {"type": "OR", "values": []}}),
        "/cohorts/",
        {
            "name": "Big",
            "description": "spenders",
            "is_static": False,
            "filters": {"properties": {"type": "OR", "values": []}},
        },
        id="create_cohort with filters",
    ),
    pytest.param(
        lambda c: c.create_insight("Visits", "TRENDS", {"events": [{"id": "$pageview"}]}),
        "/insights/",
        {"name": "Visits", "filters": {"insight": "TRENDS", "events": [{"id": "$pageview"}]}},
        id="create_insight with old filters",
    ),
    pytest.param(
        lambda c: c.create_insight("Visits", "TRENDS", {"kind": "TrendsQuery", "series": []}),
        "/insights/",
        {"name": "Visits", "query": {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery", "series": []}}},
        id="create_insight with a query",
    ),
    pytest.param(
        lambda c: c.create_insight("Visits", "SQL", {"kind": "HogQLQuery", "query": "SELECT 1"}),
        "/insights/",
        {
            "name": "Visits",
            "query": {"kind": "DataVisualizationNode", "source": {"kind": "HogQLQuery", "query": "SELECT 1"}},
        },
        id="create_insight with HogQL",
    ),
    pytest.param(
        lambda c: c.create_insight("Visits", "TRENDS", {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery"}}),
        "/insights/",
        {"name": "Visits", "query": {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery"}}},
        id="create_insight with a wrapped query",
    ),
    pytest.param(
        lambda c: c.create_annotation("Launch", MOMENT, "organization"),
        "/annotations/",
        {"content": "Launch", "date_marker": "2024-05-01T12:00:00+02:00", "scope": "organization"},
        id="create_annotation",
    ),
    pytest.param(
        lambda c: c.create_annotation("Launch"),
        "/annotations/",
        {"content": "Launch", "date_marker": "2023-11-14T22:13:20+00:00", "scope": "project"},
        id="create_annotation now",
    ),
]
COLUMNS = "SELECT uuid, event, properties, timestamp, distinct_id, person_id FROM events"
MAY = {"p0": "2024-05-01T00:00:00.000000Z", "p1": "2024-06-01T00:00:00.000000Z"}
IN_MAY = "timestamp >= toDateTime({p0}) AND timestamp < toDateTime({p1})"
QUERIES: list[Any] = [
    pytest.param(lambda c: c.query("SELECT 1"), "SELECT 1", None, id="query"),
    pytest.param(
        lambda c: c.query("SELECT {a}, {b}", {"a": MOMENT, "b": ["x", None, 2]}),
        "SELECT {a}, {b}",
        {"a": "2024-05-01T10:00:00+00:00", "b": ["x", None, 2]},
        id="query with values",
    ),
    pytest.param(lambda c: c.get_events(), f"{COLUMNS} ORDER BY timestamp DESC LIMIT 100", None, id="get_events"),
    pytest.param(
        lambda c: c.get_events("it's", "u1", MOMENT, "2024-06-01", 7),
        f"{COLUMNS} WHERE event = {{p0}} AND distinct_id = {{p1}} AND "
        "timestamp > toDateTime({p2}) AND timestamp < toDateTime({p3}) ORDER BY timestamp DESC LIMIT 7",
        {"p0": "it's", "p1": "u1", "p2": "2024-05-01T10:00:00.000000Z", "p3": "2024-06-01T00:00:00.000000Z"},
        id="get_events by everything",
    ),
    pytest.param(
        lambda c: c.export_events("2024-05-01", datetime.date(2024, 6, 1)),
        f"{COLUMNS} WHERE {IN_MAY} ORDER BY timestamp ASC LIMIT 50000",
        MAY,
        id="export_events",
    ),
    pytest.param(
        lambda c: c.export_events("2024-05-01", "2024-06-01", ["a", "b"], {"plan": "pro", "odd name": ["x", "y"]}),
        f"{COLUMNS} WHERE {IN_MAY} AND event IN ({{p2}}, {{p3}}) AND "
        "properties.plan = {p4} AND properties.`odd name` IN ({p5}, {p6}) ORDER BY timestamp ASC LIMIT 50000",
        {**MAY, "p2": "a", "p3": "b", "p4": "pro", "p5": "x", "p6": "y"},
        id="export_events by names and properties",
    ),
]


@pytest.mark.parametrize(("call", "path", "params"), READS)
def test_reads_are_gets_below_the_project(
    call: Call, path: str, params: dict[str, str], client: PostHogClient, wire: responses.RequestsMock
) -> None:
    wire.get(f"{APP}{path}", json=EMPTY_PAGE)
    call(client)
    request = only(wire)
    assert dict(parse_qsl(urlsplit(request.url or "").query, keep_blank_values=True)) == params
    assert request.body is None
    assert "Content-Type" not in request.headers


@pytest.mark.parametrize(("call", "path", "body"), WRITES)
def test_writes_are_posts_below_the_project(
    call: Call, path: str, body: dict[str, Any], client: PostHogClient, wire: responses.RequestsMock
) -> None:
    wire.post(f"{APP}{path}", json={"id": 5}, status=201)
    assert call(client) == {"id": 5}
    request = only(wire)
    assert body_of(request) == body
    assert request.url == f"{APP}{path}"


@pytest.mark.parametrize(("call", "hogql", "values"), QUERIES)
def test_queries_are_posts_with_text_and_values_apart(
    call: Call, hogql: str, values: dict[str, Any] | None, client: PostHogClient, wire: responses.RequestsMock
) -> None:
    wire.post(f"{APP}/query/", json=ROWS)
    assert call(client) == [{"n": 1}]
    body = body_of(only(wire))
    expected = {"kind": "HogQLQuery", "query": hogql}
    assert body.pop("query") == (expected if values is None else {**expected, "values": values})
    assert body == {"refresh": "blocking", "name": "posthog_driver", "client_query_id": body["client_query_id"]}


def test_the_options_of_a_query_stand_where_posthog_reads_them(
    client: PostHogClient, wire: responses.RequestsMock
) -> None:
    wire.post(f"{APP}/query/", json=ROWS)
    filters = {"dateRange": {"date_from": "-7d"}}
    variables = {"1": {"variableId": "1", "code_name": "x", "value": 2}}
    text = "SELECT 1 FROM events WHERE {filters} AND x = {variables.x}"
    client.query(text, fresh=True, name="weekly report", filters=filters, variables=variables)
    body = body_of(only(wire))
    assert body["query"] == {"kind": "HogQLQuery", "query": text, "filters": filters, "variables": variables}
    assert (body["refresh"], body["name"]) == ("force_blocking", "weekly report")
    assert body.keys() == {"query", "refresh", "name", "client_query_id"}


def test_discovery_asks_for_the_schema_and_the_definitions(client: PostHogClient, wire: responses.RequestsMock) -> None:
    wire.post(f"{APP}/query/", json={"tables": {"events": {"fields": {"event": {"type": "string"}}}}, "joins": []})
    wire.get(f"{APP}/property_definitions/", json=EMPTY_PAGE)
    wire.get(f"{APP}/event_definitions/", json=EMPTY_PAGE)
    client.get_fields("events")
    query, properties, events = sent(wire)
    assert body_of(query)["query"] == {"kind": "DatabaseSchemaQuery"}
    assert properties.params == {"type": "event", "limit": "500", "offset": "0"}
    assert events.params == {"limit": "500", "offset": "0"}


def test_a_slow_query_is_polled_and_cancelled_below_its_own_url(
    client: PostHogClient, wire: responses.RequestsMock
) -> None:
    def interrupted(_: requests.PreparedRequest) -> Any:
        raise KeyboardInterrupt

    working = {"query_status": {"id": "a/b", "complete": False}}
    wire.post(f"{APP}/query/", json=working, status=202)
    wire.add_callback("GET", f"{APP}/query/a%2Fb/", interrupted)
    wire.delete(re.compile(f"{APP}/query/[0-9a-f-]+/$"), json={"message": "Query cancelled"})
    with pytest.raises(KeyboardInterrupt):
        client.query("SELECT 1")
    post, poll, cancel = sent(wire)
    assert (poll.method, poll.body, cancel.method, cancel.body) == ("GET", None, "DELETE", None)
    assert cancel.url == f"{APP}/query/{body_of(post)['client_query_id']}/"
    assert cancel.headers["Authorization"] == "Bearer phx_test_key"


class TestIngestion:
    def test_takes_one_event_with_the_token_in_its_body(
        self, client: PostHogClient, wire: responses.RequestsMock
    ) -> None:
        wire.post(f"{INGESTION}/i/v0/e/", json={"status": "Ok"})
        assert client.capture_event("paid", "u1", {"amount": 3}, MOMENT) == {"status": "Ok"}
        body = body_of(only(wire))
        assert body.pop("uuid")
        assert body == {
            "api_key": "phc_test",
            "event": "paid",
            "distinct_id": "u1",
            "properties": {"amount": 3},
            "timestamp": "2024-05-01T10:00:00+00:00",
        }

    def test_takes_many_events_compressed(self, client: PostHogClient, wire: responses.RequestsMock) -> None:
        wire.post(f"{INGESTION}/batch/", json={"status": "Ok"})
        client.capture_batch([{"event": "paid", "distinct_id": f"u{number}"} for number in range(100)])
        request = only(wire)
        assert request.headers["Content-Encoding"] == "gzip"
        assert int(request.headers["Content-Length"]) == len(request.body or b"")
        body = body_of(request)
        assert body.keys() == {"api_key", "batch"}
        assert [event["distinct_id"] for event in body["batch"]] == [f"u{number}" for number in range(100)]

    def test_evaluates_a_flag(self, client: PostHogClient, wire: responses.RequestsMock) -> None:
        flag = {"key": "beta", "enabled": True, "variant": None}
        wire.post(f"{INGESTION}/flags/", json={"flags": {"beta": flag}})
        assert client.evaluate_flag("beta", "u1", {"plan": "pro"}) == flag
        request = only(wire)
        assert request.url == f"{INGESTION}/flags/?v=2"
        assert body_of(request) == {
            "api_key": "phc_test",
            "distinct_id": "u1",
            "flag_keys_to_evaluate": ["beta"],
            "person_properties": {"plan": "pro"},
        }


class TestHeaders:
    AGENT = f"python-requests/{requests.__version__} posthog_driver/{__version__}"

    def test_on_the_app_host_carry_the_personal_key(self, client: PostHogClient, wire: responses.RequestsMock) -> None:
        wire.post(f"{APP}/query/", json=ROWS)
        client.query("SELECT 1")
        request = only(wire)
        assert dict(request.headers) == {
            "User-Agent": self.AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": "Bearer phx_test_key",
            "Content-Type": "application/json",
            "Content-Length": str(len(request.body or b"")),
        }

    def test_on_the_ingestion_host_carry_no_key_at_all(
        self, client: PostHogClient, wire: responses.RequestsMock
    ) -> None:
        wire.get(f"{APP}/", json={})
        wire.post(f"{INGESTION}/i/v0/e/", json={"status": "Ok"})
        wire.post(f"{INGESTION}/batch/", json={"status": "Ok"})
        wire.post(f"{INGESTION}/flags/", json={"flags": {"beta": True}})
        client.get_project_info()
        client.capture_event("x", "1")
        client.capture_batch([{"event": "x", "distinct_id": "1"}])
        client.evaluate_flag("beta", "1")
        for request in sent(wire)[1:]:
            assert request.headers.keys() == {
                "User-Agent",
                "Accept",
                "Accept-Encoding",
                "Content-Type",
                "Content-Length",
            }
            assert "phx_" not in str(request.body)

    def test_never_bring_a_cookie_back(self, client: PostHogClient, wire: responses.RequestsMock) -> None:
        wire.post(f"{APP}/query/", json=ROWS, headers={"Set-Cookie": "sessionid=1; Path=/"})
        for _ in range(2):
            client.query("SELECT 1")
        assert all("Cookie" not in call.request.headers for call in wire.calls)
        assert len(client.session.cookies) == 0
