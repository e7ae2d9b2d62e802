"""The stack of layers: who decides what in a call, what is counted, and what the caller and the log get to know."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import requests
from urllib3.util import Timeout

from posthog_driver import transport as transport_module
from posthog_driver._models import ApiRequest, Attempt, RetryScheduled
from posthog_driver.circuit_breaker import CircuitBreaker, CircuitState, Outcome
from posthog_driver.exceptions import (
    AuthorizationError,
    CircuitBreakerOpen,
    ConnectionError,
    QueryTimeoutError,
    QuotaError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
    TimeoutError,
    ValidationError,
)
from posthog_driver.rate_limiter import Gate, RateLimiter, RateLimits
from posthog_driver.retry import RetryBudget, RetryPolicy
from posthog_driver.testing import FakeClock, FaultServer, StubAdapter, answer, error_body
from posthog_driver.transport import Host, Layers, Transport, judge

READ = ApiRequest("GET", "/api/projects/1/cohorts/")
WRITE = ApiRequest("POST", "/api/projects/1/cohorts/", {"name": "x"}, idempotent=False)
QUERY = ApiRequest("POST", "/api/projects/1/query/", {"query": {}}, scope="query", query_id="q-1")
POLL = ApiRequest("GET", "/api/projects/1/query/q-1/", scope="query", query_id="q-1")
CANCEL = POLL._replace(method="DELETE")
EVENT = ApiRequest("POST", "/i/v0/e/", {"event": "x"}, scope="ingest")
OK = (200, {"ok": True})


class TellingClock(FakeClock):
    """A clock that says when somebody sleeps, before the time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.during: Callable[[], Any] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.during()
        super().sleep(seconds)


class RecordingStub(StubAdapter):
    """Also keeps what the session passes along with each request."""

    def __init__(self, *script: Any, **options: Any) -> None:
        super().__init__(*script, **options)
        self.options: list[dict[str, Any]] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.options.append(options)
        return super().send(request, *args, **options)


class Rig(NamedTuple):
    transport: Transport
    stub: RecordingStub
    clock: TellingClock
    events: list[Attempt | RetryScheduled]


def rig(
    *script: Any,
    default: Any = None,
    tries: int = 3,
    budget: RetryBudget | None = None,
    limits: dict[str, Any] | None = None,
    max_concurrent: int | None = 3,
    total_timeout: float = 300.0,
) -> Rig:
    """Put a transport together over a stub; waits have no random part."""
    clock = TellingClock()
    policy = RetryPolicy(tries, total_timeout, budget=budget, rng=lambda low, high: 0.0)
    layers = Layers(policy, RateLimits(limits, clock=clock), Gate(max_concurrent, clock=clock), clock)
    made = Transport(
        Host("https://app.example", CircuitBreaker(classify=judge, clock=clock), {"Authorization": "Bearer phx_test"}),
        Host("https://in.example", CircuitBreaker(classify=judge, clock=clock), {}),
        layers,
        timeout=30.0,
        total_timeout=total_timeout,
    )
    stub = RecordingStub(*script, default=default)
    for prefix in ("https://", "http://"):
        made.session.mount(prefix, stub)
    events: list[Attempt | RetryScheduled] = []
    made.hooks.append(events.append)
    return Rig(made, stub, clock, events)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


class TestJudgement:
    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (ConnectionError("reset"), Outcome.FAILURE),
            (TimeoutError("silence"), Outcome.FAILURE),
            (ServerError("down", status=503), Outcome.FAILURE),
            (ServerError("odd", status=599), Outcome.FAILURE),
            (TimeoutError("slow", status=408), Outcome.SUCCESS),
            (QueryTimeoutError("heavy", status=504), Outcome.SUCCESS),
            (AuthorizationError("no", status=403), Outcome.SUCCESS),
            (ResponseFormatError("page", status=200), Outcome.SUCCESS),
            (RateLimitError("ours"), Outcome.NEUTRAL),
            (ValidationError("ours"), Outcome.NEUTRAL),
            (KeyboardInterrupt(), Outcome.NEUTRAL),
        ],
    )
    def test_only_an_outage_is_a_failure_of_the_server(self, error: BaseException, outcome: Outcome) -> None:
        assert judge(error) is outcome

    def test_a_call_that_ran_out_of_its_own_time_says_nothing(self) -> None:
        transport, stub, clock, _ = rig()
        with pytest.raises(TimeoutError) as caught:
            transport.send(READ._replace(deadline=clock.monotonic()))
        assert judge(caught.value) is Outcome.NEUTRAL
        assert stub.requests == []


class TestAttempts:
    def test_are_repeated_until_an_answer_and_counted(self) -> None:
        transport, stub, clock, _ = rig((503, ""), requests.ConnectionError("reset"), OK)
        found = transport.send(READ)
        assert (found.status, found.data, found.attempts) == (200, {"ok": True}, 3)
        assert len(stub.requests) == 3
        assert clock.sleeps == [1.0, 2.0]

    def test_end_with_an_error_that_says_what_was_tried_and_why_no_more(self) -> None:
        transport, _, clock, _ = rig(default=(502, error_body(502, "Bad gateway")))
        with pytest.raises(ServerError) as caught:
            transport.send(QUERY)
        error = caught.value
        assert (error.status, error.attempts, error.query_id) == (502, 3, "q-1")
        assert str(error).startswith("PostHog answered 502 to POST /api/projects/1/query/ (attempt 3 of 3, 0.0 s)")
        assert str(error).endswith("Not retried: attempt 3 of 3 was the last. [query_id=q-1]")
        assert len(clock.sleeps) == 2

    def test_of_a_write_end_when_its_outcome_is_unknown(self) -> None:
        transport, stub, _, _ = rig((502, ""))
        with pytest.raises(ServerError, match="a write whose outcome is unknown is not repeated"):
            transport.send(WRITE)
        assert len(stub.requests) == 1

    def test_may_be_fewer_for_one_request(self) -> None:
        transport, stub, _, _ = rig(default=(503, ""))
        with pytest.raises(ServerError):
            transport.send(READ._replace(max_attempts=2))
        assert len(stub.requests) == 2

    def test_end_before_a_wait_that_would_pass_the_deadline(self) -> None:
        transport, stub, clock, _ = rig(default=(503, ""))
        with pytest.raises(ServerError, match="would pass the deadline"):
            transport.send(READ._replace(total_timeout=2.5))
        assert len(stub.requests) == 2
        assert clock.sleeps == [1.0]

    def test_have_the_shorter_of_their_own_time_and_what_is_left_of_the_call_s(self) -> None:
        transport, stub, clock, _ = rig((503, ""), OK, default=OK)
        transport.send(READ._replace(timeout=10.0, total_timeout=8.0))
        transport.send(READ)
        transport.send(READ._replace(timeout=0.5, deadline=clock.monotonic() + 9))
        given = [options["timeout"] for options in stub.options]
        assert all(isinstance(timeout, Timeout) for timeout in given)
        assert [timeout.total for timeout in given] == [8.0, 7.0, 30.0, 0.5]

    @pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
    def test_in_no_time_are_refused_and_do_not_count_as_an_outage(self, timeout: float) -> None:
        transport, stub, _, _ = rig()
        with pytest.raises(ValidationError, match="positive number of seconds"):
            transport.send(READ._replace(timeout=timeout))
        assert stub.requests == []
        assert transport.app.breaker.failure_count == 0

    def test_are_not_made_while_the_circuit_is_open_and_then_spend_nothing(self) -> None:
        limiter = RateLimiter(100, 60)
        transport, stub, _, _ = rig(tries=5, default=(503, ""), limits={"crud": limiter})
        with pytest.raises(ServerError):
            transport.send(READ)
        assert transport.app.breaker.state is CircuitState.OPEN
        with pytest.raises(CircuitBreakerOpen, match="Not retried"):
            transport.send(READ)
        assert len(stub.requests) == 5
        assert limiter.available == 95

    def test_of_the_two_hosts_have_a_breaker_each(self) -> None:
        transport, stub, _, _ = rig(*[(503, "")] * 5, default=OK, tries=5)
        with pytest.raises(ServerError):
            transport.send(READ)
        assert transport.send(EVENT).status == 200
        assert stub.requests[-1].url == "https://in.example/i/v0/e/"

    def test_share_one_budget_of_retries(self) -> None:
        budget = RetryBudget(capacity=12)
        transport, stub, _, _ = rig(default=(503, ""), tries=2, budget=budget)
        for request, sent in ((READ, 2), (EVENT, 2), (QUERY, 1)):
            before = len(stub.requests)
            with pytest.raises(ServerError) as caught:
                transport.send(request)
            assert len(stub.requests) - before == sent
        assert "the retry budget is used up" in str(caught.value)
        stub.then(OK, (503, ""), OK)
        transport.send(READ)
        assert budget.available == 3
        budget.give_back(3)
        transport.send(READ)
        assert budget.available == 6


class TestHooks:
    def test_hear_of_every_attempt_and_of_every_retry_before_its_wait(self) -> None:
        transport, _, clock, events = rig((429, "", {"Retry-After": "7"}), OK)
        seen: list[int] = []
        clock.during = lambda: seen.append(len(events))
        transport.send(READ)
        failed, retry, done = events
        assert isinstance(failed, Attempt)
        assert (failed.number, failed.limit, failed.status) == (1, 3, 429)
        assert isinstance(failed.error, RateLimitError)
        assert failed.request is READ
        assert retry == RetryScheduled(failed, 7.0, "PostHog asks to wait 7 s")
        assert isinstance(done, Attempt)
        assert (done.number, done.status, done.error) == (2, 200, None)
        assert seen == [2]

    def test_hear_of_the_attempt_that_ends_a_call(self) -> None:
        transport, _, _, events = rig(requests.ConnectionError("reset"), tries=1)
        with pytest.raises(ConnectionError) as caught:
            transport.send(READ)
        (failed,) = events
        assert isinstance(failed, Attempt)
        assert failed.status is None
        assert failed.error is caught.value


class TestLimits:
    def test_a_429_holds_the_others_of_its_scope_back_and_nobody_else(self) -> None:
        transport, stub, clock, _ = rig((429, "", {"Retry-After": "20"}), default=OK)
        meanwhile: list[Any] = []

        def others() -> None:
            clock.during = lambda: None
            for request in (QUERY, EVENT):
                meanwhile.append(transport.send(request).status)
            with pytest.raises(RateLimitError, match="asked for a pause") as caught:
                transport.send(READ._replace(total_timeout=15))
            meanwhile.append(caught.value.retry_after)

        clock.during = others
        assert transport.send(READ).attempts == 2
        assert meanwhile == [200, 200, 20.0]
        assert len(stub.requests) == 4
        assert clock.sleeps == [20.0]

    def test_a_pause_ends_with_the_wait_of_the_call_it_began_with(self) -> None:
        limiter = RateLimiter(100, 60, clock=(clock := FakeClock()))
        transport, _, _, _ = rig((429, "", {"Retry-After": "20"}), OK, limits={"crud": limiter})
        assert transport.send(READ).attempts == 2
        assert (limiter.retry_after, clock.monotonic()) == (0.0, 1000.0)

    def test_a_long_retry_after_is_an_error_at_once_and_a_pause_that_ends(self) -> None:
        transport, stub, clock, _ = rig((429, error_body(429, "Later"), {"Retry-After": "3600"}), OK)
        with pytest.raises(RateLimitError, match="longer than") as caught:
            transport.send(READ)
        assert caught.value.retry_after == 3600
        assert (len(stub.requests), clock.sleeps) == (1, [])
        assert transport.send(READ).status == 200
        assert clock.sleeps == [120.0]

    def test_a_used_up_quota_is_final_and_no_pause(self) -> None:
        transport, _, clock, _ = rig((402, error_body(402, "Quota"), {"Retry-After": "5"}), OK)
        with pytest.raises(QuotaError):
            transport.send(READ)
        assert transport.send(READ).status == 200
        assert clock.sleeps == []

    def test_a_limit_of_ours_that_outlasts_the_call_is_told_as_ours(self) -> None:
        class Busy:
            def acquire(self) -> bool:
                return False

            def wait_and_acquire(self, timeout: float | None = None) -> object:
                raise builtins.TimeoutError(f"busy for {timeout:g} s")

        transport, stub, _, _ = rig(limits={"crud": Busy()}, tries=1)
        with pytest.raises(RateLimitError, match=r"(?s)this client's own limit .* busy for 300 s") as caught:
            transport.send(READ)
        assert caught.value.retry_after is None
        assert stub.requests == []
        assert transport.app.breaker.failure_count == 0

    def test_only_queries_that_run_pass_the_gate(self) -> None:
        running: list[int] = []

        def look(_: Any) -> Any:
            running.append(transport.gate.running)
            return OK

        transport, _, _, _ = rig(default=look, max_concurrent=1)
        for request in (QUERY, POLL, READ, EVENT):
            transport.send(request)
        assert running == [1, 0, 0, 0]
        assert transport.gate.running == 0

    def test_a_full_gate_is_waited_for_until_the_deadline_only(self) -> None:
        transport, stub, clock, _ = rig(max_concurrent=1)
        with transport.gate.enter(), pytest.raises(RateLimitError, match="was not sent"):
            transport.send(QUERY._replace(total_timeout=5))
        assert clock.sleeps == [5.0]
        assert stub.requests == []

    def test_time_that_runs_out_in_the_limiter_is_no_time_to_send(self) -> None:
        class Slow(RateLimiter):
            def wait_and_acquire(self, timeout: float | None = None) -> float:
                clock.advance(5)
                return 5.0

        transport, stub, clock, _ = rig(limits={"crud": Slow(1, 1)}, tries=3)
        with pytest.raises(TimeoutError, match=r"was not sent \(attempt 1 of 3\)") as caught:
            transport.send(READ._replace(total_timeout=5))
        assert stub.requests == []
        assert caught.value._never_sent


class TestCancelling:
    def test_takes_at_most_a_second_and_passes_all_layers_by(self) -> None:
        limiter = RateLimiter(1, 60)
        transport, stub, _, events = rig(default=OK, limits={"query": limiter})
        transport.cancel(CANCEL)
        transport.cancel(CANCEL._replace(timeout=0.25))
        assert [request.method for request in stub.requests] == ["DELETE", "DELETE"]
        assert [options["timeout"].total for options in stub.options] == [1.0, 0.25]
        assert (events, limiter.available) == ([], 1)

    @pytest.mark.parametrize("fault", [(404, error_body(404, "gone")), (200, "<html>"), requests.ConnectionError("x")])
    def test_that_fails_is_a_word_at_debug_and_nothing_else(self, fault: Any, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "posthog_driver")
        transport, stub, clock, events = rig(fault)
        transport.cancel(CANCEL)
        assert len(stub.requests) == 1
        assert {level for level, _ in lines(caplog)} == {"DEBUG"}
        assert "query q-1 could not be cancelled" in caplog.text
        assert (events, clock.sleeps, transport.app.breaker.failure_count) == ([], [], 0)


class TestTheLog:
    def test_of_a_call_tells_its_start_its_retry_and_its_end(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "posthog_driver")
        transport, _, _, _ = rig((503, ""), OK)
        transport.send(QUERY)
        assert lines(caplog) == [
            ("DEBUG", "POST /api/projects/1/query/, attempt 1 of 3"),
            (
                "WARNING",
                "POST /api/projects/1/query/ -> 503 in 0.00 s, attempt 1/3, retry in 1.00 s: status 503",
            ),
            ("DEBUG", "POST /api/projects/1/query/, attempt 2 of 3"),
            ("INFO", "POST /api/projects/1/query/ -> 200 in 0.00 s, attempt 2/3"),
        ]
        facts = vars(caplog.records[-1])
        assert (facts["query_id"], facts["scope"], facts["attempt"]) == ("q-1", "query", 2)
        assert (facts["status_code"], facts["latency_ms"]) == (200, 0.0)

    def test_names_an_error_but_leaves_the_server_s_words_below_info(self, caplog: pytest.LogCaptureFixture) -> None:
        transport, _, _, _ = rig(default=(400, error_body(400, "Unknown table secret_table")))
        for level in ("INFO", "DEBUG"):
            caplog.clear()
            caplog.set_level(level, "posthog_driver")
            with pytest.raises(Exception, match="secret_table"):
                transport.send(QUERY)
            assert ("secret_table" in caplog.text) == (level == "DEBUG")
            assert (
                "ERROR",
                "POST /api/projects/1/query/ failed after 1 of 3 attempts: QueryError 400 invalid_input",
            ) in lines(caplog)

    def test_warns_only_of_a_504_that_goes_on_as_another_query(self, caplog: pytest.LogCaptureFixture) -> None:
        transport, _, _, _ = rig(default=(504, ""))
        for tries, level in ((None, "WARNING"), (1, "ERROR")):
            caplog.clear()
            with pytest.raises(QueryTimeoutError):
                transport.send(QUERY._replace(max_attempts=tries))
            assert [line[0] for line in lines(caplog)] == [level]

    def test_is_not_written_where_nobody_reads_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "posthog_driver")
        transport, _, _, _ = rig(OK)
        transport.send(READ)
        assert caplog.records == []

    def test_of_a_missing_answer_names_the_kind_of_error(self, caplog: pytest.LogCaptureFixture) -> None:
        transport, _, _, _ = rig(requests.ReadTimeout("slow"), OK)
        transport.send(READ)
        assert "-> TimeoutError in 0.00 s, attempt 1/3, retry in 1.00 s: no answer in time" in caplog.text


class TestErrors:
    @pytest.mark.parametrize(
        ("raised", "kind"),
        [
            (requests.ConnectionError("reset"), ConnectionError),
            (requests.ReadTimeout("slow"), TimeoutError),
            (requests.exceptions.ChunkedEncodingError("cut"), ConnectionError),
            (OSError("no route"), ConnectionError),
            (ValueError("odd"), ConnectionError),
        ],
    )
    def test_of_the_network_keep_their_cause_without_the_request(self, raised: Exception, kind: type) -> None:
        transport, stub, _, _ = rig(raised, tries=1)
        if isinstance(raised, requests.RequestException):
            raised.request = requests.Request("GET", "https://app.example").prepare()
        with pytest.raises(kind, match=str(raised)) as caught:
            transport.send(READ)
        assert type(caught.value) is kind
        assert caught.value.__cause__ is raised
        assert getattr(raised, "request", None) is None
        assert stub.requests[0].headers["Authorization"] == "Bearer phx_test"

    def test_for_a_body_that_json_cannot_hold_come_before_anything_is_sent(self) -> None:
        circle: dict[str, Any] = {}
        circle["again"] = circle
        transport, stub, _, _ = rig()
        for body in ({"x": float("nan")}, {"x": object()}, circle):
            with pytest.raises(ValidationError, match="Nothing was sent"):
                transport.send(READ._replace(method="POST", json=body))
        assert stub.requests == []
        assert transport.app.breaker.failure_count == 0

    def test_for_a_page_instead_of_json_quote_its_beginning(self) -> None:
        transport, _, _, _ = rig((200, "<html>Sign in, please"))
        with pytest.raises(ResponseFormatError, match=r"200 .* no JSON: '<html>Sign in, please'"):
            transport.send(READ)

    def test_hold_what_the_server_asks_for(self) -> None:
        transport, _, clock, _ = rig((503, "", {"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}), tries=1)
        assert clock.wall() == 1_700_000_000.0  # 22:13:20
        with pytest.raises(ServerError) as caught:
            transport.send(READ)
        assert caught.value.retry_after == 30.0


class TestRequests:
    @pytest.mark.parametrize(
        ("path", "params", "target"),
        [
            (
                "/a/",
                {"limit": 5, "basic": True, "search": None, "q": "a b&c/ü"},
                "/a/?limit=5&basic=true&q=a+b%26c%2F%C3%BC",
            ),
            ("/a/", {"search": None}, "/a/"),
            ("/a/", {}, "/a/"),
            ("/a/?b=1", {"c": [1, 2]}, "/a/?b=1&c=1&c=2"),
            ("/a/?b=1", None, "/a/?b=1"),
        ],
    )
    def test_carry_their_parameters(self, path: str, params: Any, target: str) -> None:
        transport, stub, _, _ = rig(OK)
        transport.send(READ._replace(path=path, params=params))
        assert stub.requests[0].path_url == target

    def test_bring_ready_bytes_and_headers_of_their_own(self) -> None:
        transport, stub, _, _ = rig(OK)
        transport.send(EVENT._replace(json=None, body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
        sent = stub.requests[0]
        assert (sent.body, sent.headers["Content-Encoding"], sent.headers["Content-Length"]) == (
            b"\x1f\x8b",
            "gzip",
            "2",
        )
        assert "Authorization" not in sent.headers

    def test_take_the_session_s_headers_as_they_are_now(self) -> None:
        transport, stub, _, _ = rig(default=OK)
        transport.send(READ)
        transport.session.headers["X-Proxy"] = "yes"
        transport.session.headers["Authorization"] = "Basic of-somebody"
        transport.session.headers["accept"] = None  # type: ignore[assignment]
        transport.send(READ)
        transport.session.headers = {}
        transport.send(READ)
        first, second, third = (request.headers for request in stub.requests)
        assert (first["Accept"], "X-Proxy" in first) == ("application/json", False)
        assert (second["X-Proxy"], second["Authorization"]) == ("yes", "Bearer phx_test")
        assert "Accept" not in second
        assert dict(third) == {"Authorization": "Bearer phx_test"}

    def test_do_not_share_their_headers(self) -> None:
        transport, stub, _, _ = rig(default=OK)
        transport.send(READ._replace(headers={"X-One": "1"}))
        transport.send(READ)
        assert "X-One" not in stub.requests[1].headers

    def test_call_the_session_s_own_hooks_even_those_that_read_the_answer(self) -> None:
        transport, _, _, _ = rig(OK)
        heard: list[bytes] = []
        transport.session.hooks["response"].append(lambda response, **_: heard.append(response.content))
        assert transport.send(READ).data == {"ok": True}
        assert heard == [b'{"ok": true}']

    def test_that_are_shown_show_no_header(self) -> None:
        transport, _, _, _ = rig()
        assert repr(transport.app) == "<Host https://app.example>"


def test_an_answer_above_the_cap_is_an_error_even_when_its_length_is_honest(
    connect: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, fails: Any
) -> None:
    monkeypatch.setattr(transport_module, "MAX_BODY_BYTES", 1_000)
    fault_server.then(answer(200, {"x": "y" * 2_000}), answer(200, {"x": "y" * 900}))
    client = connect()
    with fails(ResponseFormatError, match="larger than 1,000 bytes"):
        client.request("/api/projects/1/cohorts/")
    assert client.request("/api/projects/1/cohorts/") == {"x": "y" * 900}


def test_a_forked_child_starts_without_connections(connect: Any, fault_server: FaultServer) -> None:
    fault_server.default = answer(200, {})
    client = connect()
    client.request("/a/")
    transport_module._renew_sessions()  # what the child does first
    client.request("/a/")
    assert [request.connection for request in fault_server.requests] == [1, 2]


def test_a_hook_that_fails_is_logged_and_breaks_no_call(caplog: pytest.LogCaptureFixture) -> None:
    transport, _, _, events = rig((200, {"id": 1}))
    transport.hooks.insert(0, lambda event: 1 / 0)
    assert transport.send(ApiRequest("GET", "/api/projects/1/")).data == {"id": 1}
    assert len(events) == 1
    assert "a hook of the transport failed" in caplog.text


def test_a_long_page_in_place_of_json_is_shown_in_part_and_says_so() -> None:
    transport, _, _, _ = rig((200, b"<html>" + b"x" * 1_000))
    with pytest.raises(ResponseFormatError, match=r"no JSON: '<html>x+\.\.\. \(806 more characters not shown\)'"):
        transport.send(READ)
