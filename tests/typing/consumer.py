"""A program as users write it; it is never run, mypy --strict checks it as theirs would be.

Lines that must not pass name the error that mypy has to find there: strict mode complains about an unneeded ignore.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import posthog_driver
from posthog_driver import (
    CircuitBreakerOpen,
    Client,
    ConnectionError,
    PostHogClient,
    PostHogConfig,
    PostHogError,
    QueryBuilder,
    QueryError,
    QueryResult,
    RateLimitError,
    ValidationError,
)
from posthog_driver.circuit_breaker import CircuitState
from posthog_driver.rate_limiter import Limiter, RateLimiter
from posthog_driver.testing import FakeClock, StubAdapter

if TYPE_CHECKING:
    from typing_extensions import assert_type


def settings() -> PostHogConfig:
    config = PostHogConfig("phx_test_key", 1, timeout=10, rate_limit_per_minute=None)
    assert_type(config.project_id, str)
    assert_type(config.project_api_key, str | None)
    assert_type(config.timeout, float)
    assert_type(config.max_concurrent, int | None)
    assert_type(PostHogConfig.from_env(dotenv=True), PostHogConfig)
    PostHogConfig("phx_test_key")  # type: ignore[call-arg]
    PostHogConfig("phx_test_key", 1, timeout="10")  # type: ignore[arg-type]
    return config


def rows(client: PostHogClient) -> list[dict[str, Any]]:
    result = client.query("SELECT event FROM events WHERE event = {event}", {"event": "x"}, timeout=5)
    assert_type(result, QueryResult)
    assert_type(result.columns, list[str])
    assert_type(result.truncated, bool)
    assert_type(result.query_id, str | None)
    assert_type(result.info.elapsed, float)
    for row in result:
        assert_type(row, dict[str, Any])
    client.query(5)  # type: ignore[arg-type]
    client.query("SELECT 1", limit=5)  # type: ignore[call-arg]
    text, values = QueryBuilder().select("event").from_("events").where("event", "=", "x").limit(5).build_bound()
    assert_type(client.query(text, values), QueryResult)
    return result


def questions(client: PostHogClient) -> None:
    since = datetime.date(2026, 11, 1)
    trend = client.trends(["a", {"event": "b", "where": {"plan": "pro"}}, None], since=since, by="person.plan")
    assert_type(trend, QueryResult)
    assert_type(client.trends("a", measure="sum", of="amount", until=datetime.datetime.now()), QueryResult)
    assert_type(client.funnel(["a", "b"], within=datetime.timedelta(days=1)), QueryResult)
    assert_type(client.funnel(({"event": "a"}, "b"), within="1d", order="any"), QueryResult)
    assert_type(client.retention("a", every="day", periods=3), QueryResult)
    assert_type(client.lifecycle("a"), QueryResult)
    assert_type(client.stickiness(["a"]), QueryResult)
    assert_type(client.paths("pages", limit=5), QueryResult)
    assert_type(client.ask({"kind": "HogQLMetadata"}, query_id="mine"), dict[str, Any])
    assert_type(client.cancel_query("mine", timeout=1.5), bool)
    client.query("SELECT 1", query_id="mine")
    client.query("SELECT 1", query_id=5)  # type: ignore[arg-type]
    client.trends("a", since=5)  # type: ignore[arg-type]
    client.funnel(["a", "b"], within=14)  # type: ignore[arg-type]
    client.retention("a", period=8)  # type: ignore[call-arg]
    client.paths(limit="5")  # type: ignore[arg-type]


def everything_else(client: PostHogClient) -> None:
    assert_type(client.list_objects(), list[str])
    assert_type(client.get_fields("events"), dict[str, dict[str, Any]])
    assert_type(client.health_check(timeout=1.5), bool)
    assert_type(client.capture_event("paid", "u1", {"amount": 3}, datetime.datetime.now()), dict[str, Any])
    assert_type(client.capture_batch([{"event": "paid", "distinct_id": "u1"}]), dict[str, Any])
    assert_type(client.get_events(limit=5), QueryResult)
    assert_type(client.get_persons(properties={"plan": "pro"}), list[dict[str, Any]])
    assert_type(client.create_cohort("Big"), dict[str, Any])
    assert_type(client.circuit_breaker.state, CircuitState)
    assert_type(client.rate_limiter, Limiter | None)
    client.rate_limiter = RateLimiter(10, 60)
    client.rate_limiter = None
    client.session.proxies["https"] = "http://proxy.example:3128"
    client.capture_event("paid")  # type: ignore[call-arg]


def careful(client: Client) -> float | None:
    try:
        client.query("SELECT 1")
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
        return error.retry_after
    except QueryError as error:
        assert_type((error.position, error.end), tuple[int | None, int | None])
        assert_type(error.hint, str | None)
    except (ValidationError, ConnectionError, CircuitBreakerOpen) as error:
        assert_type(error.status, int | None)
    except posthog_driver.PostHogError as error:
        as_root: PostHogError = error
        assert_type(as_root.message, str)
    return None


def under_test() -> None:
    with PostHogClient(settings(), clock=FakeClock()) as client:
        assert_type(client, PostHogClient)
        assert_type(StubAdapter((200, {"results": []})).mount(client), PostHogClient)
        rows(client)
