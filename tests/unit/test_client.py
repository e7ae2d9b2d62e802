"""The client: settings, the life of a query, health, limits, pages of entities, and the one way to the transport."""

from __future__ import annotations

import datetime
import gc
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
import requests

import posthog_driver
from posthog_driver import PostHogClient, PostHogConfig
from posthog_driver._clock import SystemClock
from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionError,
    ObjectNotFoundError,
    PostHogError,
    QueryTimeoutError,
    QuotaError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
    TimeoutError,
    ValidationError,
)
from posthog_driver.logging_config import redact
from posthog_driver.rate_limiter import RateLimiter
from posthog_driver.testing import FakeClock, StubAdapter, error_body, query_answer, query_status

QUERY = "/api/projects/1/query/"
ROWS = query_answer([[1]], ["n"])
OK = (200, ROWS)
SLOW = (504, error_body(504, "Query has hit the max execution time"))
WORKING = (202, query_status("q"))
DONE = (200, query_status("q", results=ROWS))

Make = Callable[..., tuple[PostHogClient, StubAdapter]]


@pytest.fixture
def make(fake_clock: FakeClock) -> Iterator[Make]:
    """Make clients over a stub with a script of answers; options that are no settings go to the client."""
    made: list[PostHogClient] = []

    def build(*script: Any, default: Any = None, clock: Any = fake_clock, **options: Any) -> Any:
        own = {name: options.pop(name) for name in ("rate_limiter",) if name in options}
        settings = {"api_key": "phx_test_key", "project_id": "1", "project_api_key": "phc_test", **options}
        client = PostHogClient(PostHogConfig(**settings), clock=clock, **own)
        made.append(client)
        stub = StubAdapter(*script, default=default)
        return stub.mount(client), stub

    yield build
    for client in made:
        client.__exit__(None, None, None)


def body_of(request: requests.PreparedRequest) -> Any:
    return json.loads(request.body or b"null")


def sent(stub: StubAdapter) -> list[str]:
    return [f"{request.method} {request.path_url}" for request in stub.requests]


class TestSettings:
    def test_come_from_the_arguments_then_the_config_then_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_environment")
        monkeypatch.setenv("POSTHOG_PROJECT_ID", "7")
        monkeypatch.setenv("POSTHOG_API_URL", "https://eu.posthog.com")
        client = PostHogClient(project_id=8, timeout=3)
        assert (client.api_key, client.project_id, client.api_url) == ("phx_environment", "8", "https://eu.posthog.com")
        assert (client.capture_url, client.config.timeout) == ("https://eu.i.posthog.com", 3)
        config = PostHogConfig("phx_config", 9, max_retries=5)
        client = PostHogClient(config, project_api_key="phc_argument", max_concurrent=2)
        assert (client.api_key, client.project_id, client.project_api_key) == ("phx_config", "9", "phc_argument")
        assert (client.config.max_retries, client.config.max_concurrent) == (5, 2)
        assert client.api_url == "https://us.posthog.com"

    def test_without_a_key_or_a_project_name_the_variable(self) -> None:
        with pytest.raises(AuthenticationError, match="POSTHOG_PERSONAL_API_KEY"):
            PostHogClient(project_id=1)
        with pytest.raises(ConfigurationError, match="POSTHOG_PROJECT_ID"):
            PostHogClient(api_key="phx_test_key")

    def test_are_not_shown_where_they_are_secret(self, make: Make) -> None:
        client, _ = make()
        assert repr(client) == "<PostHogClient project_id='1' api_url='https://us.posthog.com'>"

    def test_do_without_a_clock(self) -> None:
        client = PostHogClient(api_key="k", project_id=1)
        assert isinstance(client._clock, SystemClock)
        assert isinstance(client.session, requests.Session)

    def test_have_another_name(self) -> None:
        assert posthog_driver.Client is PostHogClient


def test_a_key_in_the_place_of_the_config_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="give the key by name") as caught:
        PostHogClient("phx_test_key")  # type: ignore[arg-type]
    assert "phx_test" not in str(caught.value)


class TestLife:
    def test_as_a_context_closes_the_session(self) -> None:
        with PostHogClient(api_key="k", project_id=1) as client:
            client.session.close = close = Mock()  # type: ignore[method-assign]
        close.assert_called_once_with()

    def test_masks_its_keys_until_it_is_gone(self) -> None:
        keys = "odd-key-1234 odd-token-1234"
        client = PostHogClient(api_key="odd-key-1234", project_id=1, project_api_key="odd-token-1234")
        with client:
            assert redact(keys) == "odd-ke...34 odd-to...34"
        assert redact(keys) == "odd-ke...34 odd-to...34"
        del client
        gc.collect()
        assert redact(keys) == keys

    def test_goes_on_after_a_close(self, make: Make) -> None:
        client, _ = make(OK, OK)
        client.query("SELECT 1")
        client.close()
        assert client.query("SELECT 1") == [{"n": 1}]


class TestMakeRequest:
    def test_is_the_one_way_and_may_be_patched(self, make: Make) -> None:
        client, stub = make()
        client._make_request = Mock(return_value={"results": [[1, "a"]], "columns": ["n", "x"]})  # type: ignore[method-assign]
        assert client.query("SELECT n, x FROM events WHERE event = {e}", {"e": "paid"}) == [{"n": 1, "x": "a"}]
        (endpoint,), named = client._make_request.call_args
        assert (endpoint, named["method"], named["use_capture_url"]) == (QUERY, "POST", False)
        assert named["json"]["query"] == {
            "kind": "HogQLQuery",
            "query": "SELECT n, x FROM events WHERE event = {e}",
            "values": {"e": "paid"},
        }
        assert stub.requests == []

    @pytest.mark.parametrize(
        ("call", "endpoint", "method", "ingestion"),
        [
            (lambda client: client.health_check(), "/api/projects/1/", "GET", False),
            (lambda client: client.get_project_info(), "/api/projects/1/", "GET", False),
            (lambda client: client.capture_event("x", "1"), "/i/v0/e/", "POST", True),
            (lambda client: client.capture_batch([{"event": "x", "distinct_id": "1"}]), "/batch/", "POST", True),
            (lambda client: client.list_objects(), QUERY, "POST", False),
            (lambda client: client.get_cohorts(), "/api/projects/1/cohorts/", "GET", False),
            (lambda client: client.create_cohort("x"), "/api/projects/1/cohorts/", "POST", False),
            (lambda client: client.request("/api/users/@me/"), "/api/users/@me/", "GET", False),
        ],
    )
    def test_sees_the_endpoint_first_and_the_method_by_name(
        self, call: Any, endpoint: str, method: str, ingestion: bool, make: Make
    ) -> None:
        client, _ = make()
        client._make_request = Mock(return_value={"results": [], "tables": {}})  # type: ignore[method-assign]
        call(client)
        (first,), named = client._make_request.call_args
        assert (first, named["method"], named.get("use_capture_url", False)) == (endpoint, method, ingestion)

    def test_that_fails_makes_health_false_and_everything_else_fail(self, make: Make) -> None:
        client, _ = make()
        client._make_request = Mock(side_effect=RuntimeError("patched"))  # type: ignore[method-assign]
        assert client.health_check() is False
        with pytest.raises(RuntimeError, match="patched"):
            client.query("SELECT 1")

    def test_repeats_reads_and_no_writes(self, make: Make) -> None:
        client, stub = make(default=(503, ""))
        for method, tries in (("get", 3), ("HEAD", 3), ("DELETE", 1), ("PATCH", 1)):
            client.circuit_breaker.reset()
            before = len(stub.requests)
            with pytest.raises(ServerError):
                client._make_request("/api/projects/1/cohorts/", method)
            assert len(stub.requests) - before == tries

    @pytest.mark.parametrize("receipt", [(200, b""), (204, b""), (200, "1"), (200, "Ok"), (200, 1)])
    def test_makes_a_dict_of_any_receipt_of_ingestion(self, receipt: tuple[int, Any], make: Make) -> None:
        client, _ = make(receipt)
        assert client.capture_event("x", "1") == {"success": True, "status_code": receipt[0]}

    @pytest.mark.parametrize(
        ("method", "status"), [("DELETE", 204), ("DELETE", 200), ("POST", 204), ("PATCH", 204), ("HEAD", 200)]
    )
    def test_makes_a_dict_of_an_answer_that_has_no_body_by_right(self, method: str, status: int, make: Make) -> None:
        client, _ = make((status, b""))
        assert client.request("/api/projects/1/x/", method) == {"success": True, "status_code": status}

    @pytest.mark.parametrize(("method", "status"), [("GET", 204), ("GET", 200), ("POST", 200)])
    def test_misses_a_body_where_there_should_be_one(self, method: str, status: int, make: Make) -> None:
        client, _ = make((status, b""))
        with pytest.raises(ResponseFormatError, match=rf"{status} .* without a body"):
            client.request("/api/projects/1/x/", method)

    @pytest.mark.parametrize("body", [[], 5, '"made"'])
    def test_of_a_method_that_promises_an_object_takes_nothing_else(self, body: Any, make: Make) -> None:
        client, _ = make((200, body), (201, body))
        with pytest.raises(ResponseFormatError, match="no object"):
            client.get_project_info()
        with pytest.raises(ResponseFormatError, match="no object"):
            client.create_cohort("x")

    @pytest.mark.parametrize(
        "endpoint",
        [
            None,
            "",
            "api/users/",
            "//evil.example/",
            "https://evil.example/",
            "/a b/",
            "/ü/",
            "/a\n",
            "/a#b",
            '/a"b',
            "/a\\b",
        ],
    )
    def test_takes_only_a_path_of_the_host(self, endpoint: Any, make: Make) -> None:
        client, stub = make()
        with pytest.raises(ValidationError, match="Nothing was sent"):
            client.request(endpoint)
        assert stub.requests == []

    def test_returns_any_json(self, make: Make) -> None:
        client, _ = make((200, []), (200, False))
        assert client.request("/api/projects/1/groups_types/") == []
        assert client.request("/api/projects/1/x/") is False


class TestASlowQuery:
    def test_goes_on_asynchronously_under_the_same_deadline(self, make: Make) -> None:
        client, stub = make(SLOW, WORKING, DONE)
        assert client.query("SELECT 1", name="slow one") == [{"n": 1}]
        assert sent(stub) == [f"POST {QUERY}", f"POST {QUERY}", f"GET {QUERY}q/"]
        first, second = (body_of(request) for request in stub.requests[:2])
        assert (first["refresh"], second["refresh"]) == ("blocking", "force_async")
        assert first["client_query_id"] == second["client_query_id"]
        assert (first["query"], first["name"]) == (second["query"], second["name"])

    def test_is_answered_by_a_200_with_rows(self, make: Make) -> None:
        client, stub = make(SLOW, OK)
        result = client.query("SELECT 1")
        assert result == [{"n": 1}]
        assert result.query_id == body_of(stub.requests[1])["client_query_id"]

    @pytest.mark.parametrize(
        ("script", "posts"),
        [
            ([SLOW, SLOW], 2),
            ([(503, ""), SLOW, SLOW], 3),
            ([(503, ""), SLOW, (503, "")], 3),
            ([(503, ""), (503, ""), SLOW], 3),
            ([SLOW, (503, ""), (503, "")], 3),
        ],
    )
    def test_counts_its_asynchronous_start_as_an_attempt(self, script: list[Any], posts: int, make: Make) -> None:
        client, stub = make(*script, max_retries=3)
        with pytest.raises(PostHogError) as caught:
            client.query("SELECT 1")
        assert caught.value.status == script[-1][0]
        assert sent(stub) == [f"POST {QUERY}"] * posts

    def test_is_a_timeout_when_there_is_no_attempt_left(self, make: Make) -> None:
        client, _ = make(SLOW, max_retries=1)
        with pytest.raises(QueryTimeoutError, match="max execution time"):
            client.query("SELECT 1")

    def test_is_polled_with_growing_pauses(self, make: Make, fake_clock: FakeClock) -> None:
        client, _ = make(*[WORKING] * 15, DONE)
        client.query("SELECT 1")
        pauses = fake_clock.sleeps
        assert len(pauses) == 15
        assert pauses == sorted(pauses)
        assert (pauses[0], pauses[-1]) == (0.1, 5.0)

    def test_is_cancelled_when_its_time_is_up(
        self, make: Make, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "posthog_driver")

        def working(request: requests.PreparedRequest) -> Any:
            return (500, "no") if request.method == "DELETE" else WORKING

        client, stub = make(default=working)
        started = fake_clock.monotonic()
        with pytest.raises(TimeoutError):
            client.query("SELECT 1", total_timeout=30)
        assert fake_clock.monotonic() - started <= 30
        own = body_of(stub.requests[0])["client_query_id"]
        assert sent(stub)[-1] == f"DELETE {QUERY}{own}/"
        assert [request.method for request in stub.requests].count("DELETE") == 1
        about = [
            record for record in caplog.records if "cancel" in record.getMessage() and "DELETE" in record.getMessage()
        ]
        assert about
        assert {record.levelno for record in about} == {logging.DEBUG}

    @pytest.mark.parametrize("script", [[KeyboardInterrupt()], [WORKING, KeyboardInterrupt()]])
    def test_is_cancelled_by_an_interrupt(self, script: list[Any], make: Make) -> None:
        client, stub = make(*script, (200, {"message": "cancelled"}))
        with pytest.raises(KeyboardInterrupt):
            client.query("SELECT 1")
        assert sent(stub)[-1].startswith(f"DELETE {QUERY}")

    def test_is_not_cancelled_when_it_was_refused_or_never_sent(self, make: Make, fake_clock: FakeClock) -> None:
        client, stub = make((400, error_body(400, "no")))
        with pytest.raises(PostHogError):
            client.query("SELECT nothing")
        client.rate_limiter = Mock(wait_and_acquire=lambda timeout: fake_clock.advance(timeout))
        with pytest.raises(TimeoutError, match="was not sent"):
            client.query("SELECT 1", total_timeout=5)
        assert sent(stub) == [f"POST {QUERY}"]


class TestIds:
    def test_a_query_runs_under_the_id_it_is_given_in_both_of_its_forms(self, make: Make) -> None:
        client, stub = make(SLOW, (202, query_status("mine")), DONE)
        result = client.query("SELECT 1", query_id="mine")
        assert result.query_id == "mine"
        assert [body_of(request)["client_query_id"] for request in stub.requests[:2]] == ["mine", "mine"]

    @pytest.mark.parametrize(
        ("answer", "stopped"),
        [
            ((200, {"message": "Query cancelled"}), True),
            ((200, {"message": "Query already complete"}), False),
            ((204, ""), True),
            ((404, error_body(404, "Not found.")), False),
        ],
    )
    def test_a_cancellation_tells_whether_it_stopped_something(self, answer: Any, stopped: bool, make: Make) -> None:
        client, stub = make(answer)
        assert client.cancel_query("mine") is stopped
        assert sent(stub) == [f"DELETE {QUERY}mine/"]

    def test_a_cancellation_waits_for_no_limit_of_queries(self, make: Make) -> None:
        client, _ = make((200, {"message": "Query cancelled"}), rate_limiter=Mock())
        assert client.cancel_query("mine") is True
        client.rate_limiter.wait_and_acquire.assert_not_called()  # type: ignore[union-attr]

    def test_a_cancellation_that_cannot_be_delivered_is_an_error_within_its_time(
        self, make: Make, fake_clock: FakeClock
    ) -> None:
        client, stub = make(default=(503, ""), max_retries=50)
        started = fake_clock.monotonic()
        with pytest.raises(ServerError):
            client.cancel_query("mine", timeout=2)
        assert fake_clock.monotonic() - started <= 2
        assert len(stub.requests) > 1

    def test_what_is_no_id_is_not_sent(self, make: Make) -> None:
        client, stub = make()
        with pytest.raises(ValidationError, match="A query's id"):
            client.cancel_query("../1")
        with pytest.raises(ValidationError, match="timeout"):
            client.cancel_query("mine", timeout=0)
        assert sent(stub) == []


class TestAsk:
    NODE: ClassVar[dict[str, Any]] = {"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT 1"}

    def test_returns_the_answer_as_it_is(self, make: Make) -> None:
        answer = {"isValid": True, "errors": []}
        client, stub = make((200, answer))
        assert client.ask(self.NODE, query_id="mine", fresh=True) == answer
        body = body_of(stub.requests[0])
        assert (body["query"], body["client_query_id"], body["refresh"]) == (self.NODE, "mine", "force_blocking")

    def test_goes_on_asynchronously_and_is_polled_until_it_is_complete(self, make: Make) -> None:
        client, stub = make(SLOW, WORKING, WORKING, (200, query_status("q", results={"results": [5]})))
        assert client.ask({"kind": "TrendsQuery"}) == {"results": [5]}
        assert [request.method for request in stub.requests] == ["POST", "POST", "GET", "GET"]

    def test_is_cancelled_when_its_time_is_up(self, make: Make) -> None:
        def working(request: requests.PreparedRequest) -> Any:
            return (200, {"message": "cancelled"}) if request.method == "DELETE" else WORKING

        client, stub = make(default=working)
        with pytest.raises(TimeoutError, match="Query mine is still running"):
            client.ask(self.NODE, query_id="mine", total_timeout=10)
        assert sent(stub)[-1] == f"DELETE {QUERY}mine/"

    def test_takes_a_place_among_the_queries(self, make: Make) -> None:
        client, _ = make((200, {}), rate_limiter=Mock())
        client.ask(self.NODE)
        client.rate_limiter.wait_and_acquire.assert_called_once()  # type: ignore[union-attr]

    @pytest.mark.parametrize("answer", [[], 5])
    def test_refuses_an_answer_that_is_no_object(self, answer: Any, make: Make) -> None:
        client, _ = make((200, answer))
        with pytest.raises(ResponseFormatError, match="is no object"):
            client.ask(self.NODE)

    def test_refuses_times_that_are_none(self, make: Make) -> None:
        client, stub = make()
        with pytest.raises(ValidationError, match="total_timeout"):
            client.ask(self.NODE, total_timeout=-1)
        assert sent(stub) == []


class TestHealth:
    def test_is_one_attempt_within_five_seconds(self, make: Make) -> None:
        client, _ = make((200, {"id": 1}))
        client._make_request = Mock(wraps=client._make_request)  # type: ignore[method-assign]
        assert client.health_check() is True
        request = client._make_request.call_args.kwargs["request"]
        assert (request.method, request.path, request.max_attempts) == ("GET", "/api/projects/1/", 1)
        assert request.timeout == 5.0

    def test_of_a_key_for_queries_alone_is_shown_by_a_query(self, make: Make) -> None:
        client, stub = make((403, error_body(403, "no scope")), OK)
        client._make_request = Mock(wraps=client._make_request)  # type: ignore[method-assign]
        assert client.health_check(timeout=2.0) is True
        assert sent(stub) == ["GET /api/projects/1/", f"POST {QUERY}"]
        first, second = (call.kwargs["request"] for call in client._make_request.call_args_list)
        assert first.deadline == second.deadline
        assert second.max_attempts == 1
        assert body_of(stub.requests[1])["query"]["query"] == "SELECT 1"

    @pytest.mark.parametrize(
        "script",
        [
            [(200, [1])],
            [(200, "page")],
            [(204, "")],
            [(401, "")],
            [(404, "")],
            [(429, "", {"Retry-After": "1"})],
            [(503, "")],
            [requests.ConnectionError("x")],
            [(403, ""), (403, "")],
            [(403, ""), (504, "")],
            [(403, ""), (200, query_answer([], ["n"]))],
        ],
    )
    def test_is_false_after_anything_else_without_a_retry(
        self, script: list[Any], make: Make, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        client, stub = make(*script)
        assert client.health_check() is False
        assert len(stub.requests) == len(script)
        assert fake_clock.sleeps == []

    def test_is_false_while_the_circuit_is_open_and_sends_nothing(self, make: Make) -> None:
        client, stub = make()
        for _ in range(5):
            client.circuit_breaker.record_failure()
        assert client.health_check() is False
        assert stub.requests == []


class TestTheLimiter:
    def test_follows_the_settings(self, make: Make) -> None:
        assert make()[0].rate_limiter.windows == ((240, 60.0), (2400, 3600.0))  # type: ignore[union-attr]
        client, _ = make(rate_limit_per_minute=5, rate_limit_per_hour=None)
        assert client.rate_limiter.windows == ((5, 60.0),)  # type: ignore[union-attr]
        assert make(rate_limit_per_minute=None, rate_limit_per_hour=None)[0].rate_limiter is None

    def test_may_be_one_s_own_and_be_replaced_while_in_use(self, make: Make, fake_clock: FakeClock) -> None:
        own = Mock(spec=["acquire", "wait_and_acquire"])
        client, _ = make(default=OK, rate_limiter=own)
        client.query("SELECT 1")
        own.wait_and_acquire.assert_called_once()
        client.rate_limiter = RateLimiter(1, 10, clock=fake_clock)
        client.query("SELECT 1")
        client.query("SELECT 1")
        assert fake_clock.sleeps == [10.0]
        client.rate_limiter = None
        for _ in range(5):
            client.query("SELECT 1")
        own.wait_and_acquire.assert_called_once()
        assert fake_clock.sleeps == [10.0]
        with pytest.raises(ConfigurationError, match="a limiter needs"):
            client.rate_limiter = object()  # type: ignore[assignment]

    def test_is_for_queries_only(self, make: Make) -> None:
        own = Mock(spec=["acquire", "wait_and_acquire"])
        client, _ = make((200, {}), (200, {}), rate_limiter=own)
        client.get_project_info()
        client.capture_event("x", "1")
        own.wait_and_acquire.assert_not_called()


class TestDiscovery:
    def test_is_live_and_says_so(self, make: Make) -> None:
        client, _ = make((200, {"tables": {"mine": {"fields": {"a": {"type": "string"}}}}}))
        assert client.schema_source is None
        assert "mine" in client.list_objects()
        assert client.get_fields("mine")["a"]["type"] == "string"
        assert client.schema_source == "live"

    @pytest.mark.parametrize("fault", [(403, ""), requests.ConnectionError("x")])
    def test_without_a_server_is_static_after_one_attempt(self, fault: Any, make: Make, fake_clock: FakeClock) -> None:
        client, stub = make(fault)
        assert client.list_objects()[:3] == ["events", "persons", "sessions"]
        assert client.get_fields("events")["timestamp"]["type"] == "datetime"
        assert (client.schema_source, len(stub.requests), fake_clock.sleeps) == ("static", 1, [])

    def test_behind_an_open_circuit_is_static_and_a_refresh_raises(self, make: Make) -> None:
        client, stub = make()
        for _ in range(5):
            client.circuit_breaker.record_failure()
        assert "events" in client.list_objects()
        with pytest.raises(CircuitBreakerOpen):
            client.list_objects(refresh=True)
        assert stub.requests == []

    def test_with_a_wrong_key_raises(self, make: Make) -> None:
        client, _ = make(default=(401, error_body(401, "Invalid key")))
        with pytest.raises(AuthenticationError, match="Invalid key"):
            client.list_objects()
        with pytest.raises(AuthenticationError):
            client.get_fields("events")

    def test_refresh_is_bounded_by_the_client_s_own_time(self, make: Make, fake_clock: FakeClock) -> None:
        client, _ = make(default=(503, ""), total_timeout=2.5)
        started = fake_clock.monotonic()
        with pytest.raises(ServerError):
            client.list_objects(refresh=True)
        assert fake_clock.monotonic() - started <= 2.5


class TestCapture:
    EVENTS = (
        {"event": "a", "distinct_id": "1"},
        {"event": "b", "distinct_id": "1"},
        {"event": "c", "distinct_id": "1"},
    )

    def test_reports_what_was_sent_and_what_posthog_drops(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("posthog_driver.capture.MAX_BATCH_BYTES", 10)
        client, _ = make((200, {"status": "Ok"}), *[(200, {"quota_limited": ["events"]})] * 3)
        result = client.capture_batch(self.EVENTS)
        assert result == {"success": True, "events": 3, "requests": 3, "quota_limited": ["events"]}
        assert "drops ['events']" in caplog.text
        assert client.capture_event("x", "1") == {"quota_limited": ["events"]}
        assert caplog.text.count("drops") == 3

    def test_that_fails_half_way_says_how_far_it_came(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("posthog_driver.capture.MAX_BATCH_BYTES", 10)
        client, _ = make((200, {"status": "Ok"}), (400, "bad event"))
        with pytest.raises(PostHogError, match="1 of 3 events were accepted before this") as caught:
            client.capture_batch(self.EVENTS)
        assert caught.value.status == 400

    def test_keeps_an_event_s_identity_over_all_attempts(self, make: Make, fake_clock: FakeClock) -> None:
        client, stub = make((503, ""), requests.ConnectionError("reset"), (200, {"status": "Ok"}))
        client.capture_event("paid", "1")
        bodies = [request.body for request in stub.requests]
        assert bodies[0] == bodies[1] == bodies[2]
        assert fake_clock.sleeps

    def test_without_a_token_names_the_variable(self, make: Make) -> None:
        client, stub = make(project_api_key=None)
        calls: list[Callable[[], Any]] = [
            lambda: client.capture_event("x", "1"),
            lambda: client.capture_batch([]),
            lambda: client.evaluate_flag("x", "1"),
        ]
        for call in calls:
            with pytest.raises(ConfigurationError, match="POSTHOG_PROJECT_API_KEY"):
                call()
        assert stub.requests == []

    def test_of_no_events_sends_nothing(self, make: Make) -> None:
        client, stub = make()
        assert client.capture_batch([])["events"] == 0
        assert stub.requests == []

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            ({"flags": {}}, ObjectNotFoundError),
            ({"flags": {}, "quotaLimited": ["feature_flags"]}, QuotaError),
            ({"flags": {"beta": {"failed": True}}}, ServerError),
            ({"status": 1}, ResponseFormatError),
        ],
    )
    def test_of_a_flag_that_is_not_evaluated_raises(self, answer: Any, kind: type[Exception], make: Make) -> None:
        client, _ = make((200, answer))
        with pytest.raises(kind):
            client.evaluate_flag("beta", "1")


def page(*items: Any, more: bool = False) -> tuple[int, Any]:
    return 200, {"count": 9, "next": "https://elsewhere.example/?offset=1" if more else None, "results": list(items)}


def person(number: int) -> dict[str, Any]:
    return {"id": number}


class TestPages:
    def test_are_followed_until_all_are_there_on_our_own_host(self, make: Make) -> None:
        first, second = [person(n) for n in range(100)], [person(100)]
        client, stub = make(page(*first, more=True), page(*second))
        assert client.get_feature_flags() == [*first, *second]
        path = "https://us.posthog.com/api/projects/1/feature_flags/"
        assert [request.url for request in stub.requests] == [f"{path}?limit=100&offset={n}" for n in (0, 100)]

    def test_are_followed_until_there_are_enough(self, make: Make) -> None:
        client, stub = make(
            page(*[person(n) for n in range(100)], more=True), page(*[person(n) for n in range(99)], more=True)
        )
        assert len(client.get_persons(limit=150)) == 150
        assert [request.url.partition("?")[2] for request in stub.requests if request.url] == [
            "limit=100&offset=0",
            "limit=50&offset=100",
        ]

    def test_end_with_an_empty_one(self, make: Make) -> None:
        client, stub = make(page(more=True))
        assert client.get_experiments() == []
        assert len(stub.requests) == 1

    def test_may_be_a_plain_list(self, make: Make) -> None:
        client, _ = make((200, [{"id": 1}]))
        assert client.get_experiments() == [{"id": 1}]

    @pytest.mark.parametrize("body", [{}, {"results": None}, 5, {"results": [1]}, ["a"]])
    def test_of_another_shape_are_an_error(self, body: Any, make: Make) -> None:
        client, _ = make((200, body))
        with pytest.raises(ResponseFormatError, match="no list of results"):
            client.get_cohorts(search="x")

    @pytest.mark.parametrize("limits", [{"limit": 0}, {"limit": 1.5}, {"limit": True}, {"offset": -1}, {"offset": "1"}])
    def test_have_limits_that_are_numbers(self, limits: dict[str, Any], make: Make) -> None:
        client, stub = make()
        with pytest.raises(ValidationError, match=r"is a whole number.* Nothing was sent"):
            client.get_insights(**limits)
        assert stub.requests == []


class TestSelections:
    def test_of_cohorts_go_by_name_in_any_case(self, make: Make) -> None:
        client, _ = make(default=page({"name": "Big Spenders"}, {"name": "others"}, {"id": 3}))
        assert client.get_cohorts("SPEND") == [{"name": "Big Spenders"}]
        assert len(client.get_cohorts()) == 3

    @pytest.mark.parametrize(
        ("bounds", "found"),
        [
            ({}, [0, 1, 2, 3]),
            ({"start_date": "2024-05-01T10:00:00Z"}, [1, 2]),
            ({"end_date": "2024-05-01T12:00:00+02:00"}, [0, 1]),
            ({"start_date": datetime.date(2024, 5, 1), "end_date": datetime.datetime(2024, 5, 2)}, [0, 1]),
            ({"start_date": "2024-05-01T10:00:00.000001"}, [2]),
        ],
    )
    def test_of_annotations_include_both_ends(self, bounds: dict[str, Any], found: list[int], make: Make) -> None:
        markers = ["2024-05-01T09:00:00Z", "2024-05-01T10:00:00Z", "2024-05-03T00:00:00.500Z", None]
        client, _ = make(page(*[{"id": number, "date_marker": marker} for number, marker in enumerate(markers)]))
        assert [item["id"] for item in client.get_annotations(**bounds)] == found

    @pytest.mark.parametrize("moment", ["yesterday", "2024-13-01", 5, 5.0])
    def test_by_a_moment_that_is_none_are_refused(self, moment: Any, make: Make) -> None:
        client, stub = make()
        calls: list[Callable[[], Any]] = [
            lambda: client.get_annotations(start_date=moment),
            lambda: client.get_events(after=moment),
            lambda: client.export_events(moment, "2024-01-01"),
            lambda: client.create_annotation("x", moment),
        ]
        for call in calls:
            with pytest.raises(ValidationError, match="Nothing was sent"):
                call()
        assert stub.requests == []

    def test_that_are_no_dicts_are_refused(self, make: Make) -> None:
        client, stub = make()
        anything: Any = client
        calls: list[Callable[[], Any]] = [
            lambda: anything.get_persons(properties="plan = 'pro'"),
            lambda: anything.get_persons(properties=["plan"]),
            lambda: anything.create_cohort("x", filters=["plan"]),
            lambda: anything.create_insight("x", "TRENDS", None),
            lambda: anything.export_events(None, "2024-01-01"),
            lambda: anything.export_events("2024-01-01", None),
        ]
        for call in calls:
            with pytest.raises(ValidationError, match="Nothing was sent"):
                call()
        assert stub.requests == []

    @pytest.mark.parametrize("cohort", ["1", 1.0, True, "../1"])
    def test_of_persons_by_cohort_take_a_number(self, cohort: Any, make: Make) -> None:
        client, _ = make()
        with pytest.raises(ValidationError, match="cohort_id is a whole number"):
            client.get_persons(cohort_id=cohort)


def test_errors_of_every_kind_pass_through(make: Make) -> None:
    client, _ = make(
        (403, error_body(403, "API key missing required scope 'cohort:read'")), requests.ConnectionError("x")
    )
    with pytest.raises(AuthorizationError) as caught:
        client.get_cohorts()
    assert caught.value.scope == "cohort:read"
    with pytest.raises(ConnectionError):
        client.create_cohort("x")
    client.rate_limiter = Mock(wait_and_acquire=Mock(side_effect=TimeoutError("used up", retry_after=900.0)))
    with pytest.raises(RateLimitError) as limited:
        client.query("SELECT 1")
    assert limited.value.retry_after == 900.0
