"""The client: wires the floors and delegates.

The driver contract is three methods: `PostHogClient.list_objects` says what exists, `PostHogClient.get_fields` what it
is made of, and `PostHogClient.query` answers HogQL with rows.
"""

from __future__ import annotations

import datetime
import logging
import os
import weakref
from typing import TYPE_CHECKING, Any

from posthog_driver._clock import SystemClock
from posthog_driver._insight_methods import InsightMethods
from posthog_driver._models import ApiRequest
from posthog_driver._redaction import forget_secret, redact, register_secret
from posthog_driver.capture import parse_flag, plan_batches, plan_event, plan_flag, report_quota
from posthog_driver.circuit_breaker import CircuitBreaker
from posthog_driver.config import PostHogConfig, check_seconds
from posthog_driver.endpoints import (
    QueryOptions,
    Runner,
    parse_answer,
    parse_cancel,
    plan_ask,
    plan_cancel_id,
    plan_query,
    run_node,
    run_query,
)
from posthog_driver.exceptions import (
    AuthorizationError,
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionError,
    ObjectNotFoundError,
    PostHogError,
    RateLimitError,
    ResponseFormatError,
    ValidationError,
)
from posthog_driver.paging import iter_pages
from posthog_driver.rate_limiter import Gate, RateLimiter, RateLimits
from posthog_driver.resources import checked_path, cohort_body, insight_body, is_within, person_filters, to_moment
from posthog_driver.retry import RetryBudget, RetryPolicy
from posthog_driver.schema import Schema
from posthog_driver.transport import Host, Layers, Transport, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    import requests

    from posthog_driver._clock import Clock
    from posthog_driver._insight_methods import InsightRun
    from posthog_driver.rate_limiter import Limiter
    from posthog_driver.results import QueryResult

__all__ = ["Client", "PostHogClient"]

_HEALTH_SECONDS = 5.0
_CANCEL_SECONDS = 5.0
_EVENT_COLUMNS = ("uuid", "event", "properties", "timestamp", "distinct_id", "person_id")
_MOST_ROWS = 50_000

logger = logging.getLogger("posthog_driver.client")


class PostHogClient(InsightMethods):
    """A thread-safe client of one PostHog project; one instance serves a whole program.

    Every argument falls back to ``config``, and without one to the environment (``POSTHOG_PERSONAL_API_KEY``,
    ``POSTHOG_PROJECT_ID``, ``POSTHOG_PROJECT_API_KEY``, ``POSTHOG_API_URL``, ...) and then to the default::

        with PostHogClient() as client:
            rows = client.query("SELECT event, count() AS n FROM events GROUP BY event ORDER BY n DESC LIMIT 5")

    Args:
        config: Settings; the arguments below change single ones of them.
        api_key: Personal API key (``phx_...``), for everything but capture and flags.
        project_id: Number of the project, or ``"@current"``.
        project_api_key: Project token (``phc_...``), for capture and flags.
        api_url: App host, ``https://us.posthog.com`` by default.
        capture_url: Ingestion host; follows from ``api_url``.
        timeout: Seconds for one attempt with its whole response.
        total_timeout: Seconds for one call with all attempts, waits and polling.
        max_retries: Tries that a call may take.
        rate_limit_per_minute: Queries a minute. None means not given, as for all arguments: only a config lifts it.
        rate_limit_per_hour: Queries an hour.
        max_concurrent: Queries running at once.
        rate_limiter: Takes the place of the limiter for queries; anything with ``acquire`` and ``wait_and_acquire``.
        clock: Where time comes from; a fake one makes tests quick.

    Raises:
        AuthenticationError: there is no key.
        ConfigurationError: there is no project, or another setting cannot work; all problems are named at once.

    Attributes:
        config: All settings, frozen.
        api_key: The personal key.
        project_id: The project, as text.
        project_api_key: The project token, or None.
        api_url: App host.
        capture_url: Ingestion host.
        session: The ``requests.Session``: proxies, certificates and headers are set here.
        circuit_breaker: The breaker of the app host.
    """

    def __init__(
        self,
        config: PostHogConfig | None = None,
        *,
        api_key: str | None = None,
        project_id: str | int | None = None,
        project_api_key: str | None = None,
        api_url: str | None = None,
        capture_url: str | None = None,
        timeout: float | None = None,
        total_timeout: float | None = None,
        max_retries: int | None = None,
        rate_limit_per_minute: int | None = None,
        rate_limit_per_hour: int | None = None,
        max_concurrent: int | None = None,
        rate_limiter: Limiter | None = None,
        clock: Clock | None = None,
    ) -> None:
        given = {
            "api_key": api_key,
            "project_id": project_id,
            "project_api_key": project_api_key,
            "api_url": api_url,
            "capture_url": capture_url,
            "timeout": timeout,
            "total_timeout": total_timeout,
            "max_retries": max_retries,
            "rate_limit_per_minute": rate_limit_per_minute,
            "rate_limit_per_hour": rate_limit_per_hour,
            "max_concurrent": max_concurrent,
        }
        if config is None:
            config = PostHogConfig.from_env(overrides=given)
        elif not isinstance(config, PostHogConfig):
            raise ConfigurationError("config is a PostHogConfig; give the key by name: PostHogClient(api_key=...)")
        else:
            if config.project_api_key is None and project_api_key is None:
                given["project_api_key"] = os.environ.get("POSTHOG_PROJECT_API_KEY", "").strip() or None
            config = config.replace(given)
        self.config = config
        self.api_key = config.api_key
        self.project_id = config.project_id
        self.project_api_key = config.project_api_key
        self.api_url = config.api_url
        self.capture_url = config.capture_url
        for secret in (self.api_key, self.project_api_key):
            # Masked as long as the client lives: after `close` it may be used again.
            register_secret(secret)
            weakref.finalize(self, forget_secret, secret)
        self._clock = clock = clock or SystemClock()
        self.circuit_breaker = CircuitBreaker(name="posthog_api", classify=judge, clock=clock)
        self._transport = self._wire(clock, rate_limiter)
        self._runner = Runner(clock, self._transport.cancel, max(config.max_retries, 1))
        self._schema = Schema(self._carry, self._runner, self.project_id, config.total_timeout)
        self._base = f"/api/projects/{self.project_id}"

    def _wire(self, clock: Clock, rate_limiter: Limiter | None) -> Transport:
        """Put the layers together; see `posthog_driver.transport` for their order."""
        config = self.config
        policy = RetryPolicy(config.max_retries, config.total_timeout, budget=RetryBudget())
        limits = RateLimits({"query": rate_limiter or _query_limiter(config, clock)}, clock=clock)
        app = Host(self.api_url, self.circuit_breaker, {"Authorization": f"Bearer {self.api_key}"})
        breaker = CircuitBreaker(name="posthog_capture", classify=judge, clock=clock)
        return Transport(
            app,
            Host(self.capture_url, breaker, {}),
            Layers(policy, limits, Gate(config.max_concurrent, clock=clock), clock),
            timeout=config.timeout,
            total_timeout=config.total_timeout,
        )

    @property
    def session(self) -> requests.Session:
        """The session that everything is sent with."""
        return self._transport.session

    @property
    def rate_limiter(self) -> Limiter | None:
        """The limiter of queries; may be replaced at any time, also by one of your own or None."""
        return self._transport.limits["query"]

    @rate_limiter.setter
    def rate_limiter(self, limiter: Limiter | None) -> None:
        self._transport.limits["query"] = limiter

    @property
    def schema_source(self) -> str | None:
        """Where the last discovery came from: ``"live"`` or ``"static"``; None before the first."""
        return self._schema.source

    # --- the driver contract ------------------------------------------------------------------------------------------

    def list_objects(self, *, refresh: bool = False, timeout: float | None = None) -> list[str]:
        """Return the names of everything that can be asked about: tables, views and entities, the most used first.

        The live schema answers and is kept for five minutes; when it cannot be had, a static core answers, a warning
        is logged and ``schema_source`` is ``"static"``.

        Args:
            refresh: Ask again, and raise if the live schema cannot be had.
            timeout: Seconds for one attempt.

        Raises:
            AuthenticationError: the key is not accepted.
            PostHogError: with ``refresh``, whatever kept the live schema away.
        """
        return self._schema.list_objects(refresh=refresh, timeout=timeout)

    def get_fields(
        self, name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the fields of one object: ``{"timestamp": {"type": "datetime", "description": "..."}, ...}``.

        Properties that the project has seen stand as ``properties.$browser``; where known, ``constraints`` lists the
        values (of ``event``: the names of all events).

        Args:
            name: From `list_objects`; case-sensitive.
            refresh: Ask again, and raise if the live schema cannot be had.
            timeout: Seconds for one attempt.

        Raises:
            ObjectNotFoundError: there is no such object; the nearest names are given.
            ValidationError: the name is empty or not text.
            AuthenticationError: the key is not accepted.
        """
        return self._schema.get_fields(name, refresh=refresh, timeout=timeout)

    def query(
        self,
        hogql: str,
        values: Mapping[str, Any] | None = None,
        *,
        fresh: bool = False,
        name: str | None = None,
        filters: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        query_id: str | None = None,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Run a HogQL query and return its rows as dicts.

        Data goes in ``values`` and is bound by the server; never format it into the text::

            client.query("SELECT count() AS n FROM events WHERE event = {event}", {"event": "$pageview"})

        Args:
            hogql: Query text with ``{name}`` placeholders. Without a LIMIT PostHog returns 100 rows, and never more
                than 50,000. A cut result has ``truncated`` set, and a warning is logged.
            values: One value per placeholder: text, numbers, booleans, None, lists, dates. A datetime is bound as ISO
                8601 text in UTC (a naive one is taken for UTC): write ``toDateTime({since})``.
            fresh: Compute anew instead of taking PostHog's cache.
            name: Label in PostHog's query log, up to 128 characters.
            filters: For ``{filters}`` in the text.
            variables: For ``{variables.x}`` in the text.
            query_id: Id to run under, for `cancel_query` from another thread; random if None. Use each once.
            timeout: Seconds for one attempt with its whole response; the client's own if None.
            total_timeout: Seconds for everything: attempts, waits, and polling of slow queries.

        Returns:
            A list of dicts that also carries ``columns``, ``types``, ``truncated``, ``query_id``, ``is_cached``.
            Cells are as PostHog's JSON has them: times are ISO 8601 text, and whole ``properties`` are JSON text.

        Raises:
            ValidationError: a placeholder has no value, or a value no placeholder; nothing was sent.
            QueryError: PostHog refused the query; ``position``, ``hint`` and ``fix`` help to mend it.
            RateLimitError: the budget would not outlast the limit; ``retry_after`` in seconds, if known.
            ConnectionError, CircuitBreakerOpen: PostHog is unreachable or failing.

        Retried: yes, as a query changes nothing. One that is too slow for a blocking answer goes on as an asynchronous
        query; one that is given up (deadline, Ctrl-C) is cancelled on the server.
        """
        options = self._options(timeout, total_timeout, fresh, query_id)
        options = options._replace(name=name, filters=filters, variables=variables)
        return run_query(self._carry, self._runner, plan_query(self.project_id, hogql, values, options))

    def _options(
        self, timeout: float | None, total_timeout: float | None, fresh: bool, query_id: str | None
    ) -> QueryOptions:
        seconds = self.config.total_timeout if total_timeout is None else total_timeout
        check_seconds("total_timeout", seconds)
        deadline = self._clock.monotonic() + seconds
        return QueryOptions(fresh=fresh, timeout=timeout, deadline=deadline, query_id=query_id)

    # --- other questions ----------------------------------------------------------------------------------------------

    def ask(
        self,
        body: Mapping[str, Any],
        *,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Ask a query node of any kind and return PostHog's answer as it is, when it is complete.

        For kinds without a method of their own; the life of the query is that of `query`::

            client.ask({"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT evnt FROM events"})["errors"]

        Args:
            body: The node, what stands under ``query`` in PostHog's API: ``{"kind": "TrendsQuery", ...}``. Moments,
                dates, sets and the like become JSON as the values of a query do; PostHog refuses keys it does not know.
            query_id: Id to run under, as for `query`.
            fresh: Compute anew instead of taking PostHog's cache.
            timeout: Seconds for one attempt with its whole response; the client's own if None.
            total_timeout: Seconds for everything: attempts, waits, and polling.

        Returns:
            The whole answer: ``results``, ``is_cached``, ``last_refresh``, ... or what else the kind answers with.

        Raises:
            ValidationError: the body is no node; nothing was sent.
            PostHogError: as for `query`.

        Retried, goes on asynchronously, and is cancelled as a query.
        """
        options = self._options(timeout, total_timeout, fresh, query_id)
        data, request = run_node(self._carry, self._runner, plan_ask(self.project_id, body, options))
        return parse_answer(data, request)

    def _insight(self, node: Mapping[str, Any], run: InsightRun, most: int | None = None) -> QueryResult:
        """Ask a question that `InsightMethods` has planned; see there."""
        from posthog_driver.insights import run_insight  # loaded on first use, as many programs ask in HogQL alone

        options = self._options(run.timeout, run.total_timeout, run.fresh, run.query_id)
        return run_insight(self._carry, self._runner, plan_ask(self.project_id, node, options), most)

    def cancel_query(self, query_id: str, *, timeout: float | None = None) -> bool:
        """Stop the query that runs under an id, blocking or not, from any thread; waits for no limit of queries.

        The call that waits for the query then fails, mostly with a `QueryError`.

        Args:
            query_id: The id that was given to `query` or `ask`.
            timeout: Seconds for everything, 5 by default.

        Returns:
            True if PostHog stopped something; False if nothing of this id was running.

        Raises:
            ValidationError: it is no id; nothing was sent.
            PostHogError: PostHog could not be told; the query may go on.

        Retried: yes, within ``timeout``, as cancelling twice changes nothing.
        """
        seconds = _CANCEL_SECONDS if timeout is None else timeout
        check_seconds("timeout", seconds)
        request = plan_cancel_id(self.project_id, query_id, seconds, self._clock.monotonic() + seconds)
        try:
            return parse_cancel(self._carry(request))
        except ObjectNotFoundError:
            return False

    # --- health and project -------------------------------------------------------------------------------------------

    def health_check(self, *, timeout: float | None = None) -> bool:
        """Return whether PostHog answers for this project; never raises, never retries.

        Args:
            timeout: Seconds for everything, 5 by default.
        """
        seconds = _HEALTH_SECONDS if timeout is None else timeout
        try:
            deadline = self._clock.monotonic() + seconds
            try:
                return isinstance(self._carry(self._probe("GET", f"{self._base}/", deadline)), dict)
            except AuthorizationError:
                # A key for queries alone may not read the project; then a query is the proof of life.
                options = QueryOptions(name="health check", deadline=deadline, timeout=seconds)
                request = plan_query(self.project_id, "SELECT 1", None, options)._replace(max_attempts=1)
                # Cancelling would take another second, and SELECT 1 does not run on.
                runner = self._runner._replace(max_attempts=1, cancel=lambda request: None)
                return bool(run_query(self._carry, runner, request))
        except Exception as error:
            logger.warning("health check failed: %s", redact(str(error)))
            return False

    def _probe(self, method: str, path: str, deadline: float) -> ApiRequest:
        left = max(deadline - self._clock.monotonic(), 0.001)
        return ApiRequest(method, path, timeout=left, deadline=deadline, max_attempts=1)

    def get_project_info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the project as PostHog describes it: name, time zone, token, settings."""
        return _object(self._make_request(f"{self._base}/", method="GET", timeout=timeout), "the project")

    # --- capture and flags --------------------------------------------------------------------------------------------

    def capture_event(
        self,
        event: str,
        distinct_id: str,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime.datetime | str | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Send one event to the ingestion host, with the project token.

        Args:
            event: Name of the event.
            distinct_id: Id of the user.
            properties: JSON-compatible; NaN becomes null, which is logged.
            timestamp: When it happened; now if None. What has no zone is UTC.
            timeout: Seconds for one attempt.

        Returns:
            PostHog's answer; ``quota_limited`` in it means that the event was dropped, which is logged too.

        Retried: yes; uuid and timestamp stay the same, so that PostHog counts one event.
        """
        fields = {"event": event, "distinct_id": distinct_id, "properties": properties, "timestamp": timestamp}
        answer: dict[str, Any] = self._carry(plan_event(self.project_api_key, fields, self._clock.wall(), timeout))
        report_quota(answer)
        return answer

    def capture_batch(self, events: Iterable[Mapping[str, Any]], *, timeout: float | None = None) -> dict[str, Any]:
        """Send many events, compressed and in as many requests as their size needs.

        Args:
            events: Dicts with ``event``, ``distinct_id`` and optionally ``properties``, ``timestamp``, ``uuid``; not
                changed. Give each a ``uuid`` if you may have to send it again: PostHog keeps one of the same uuid.
            timeout: Seconds for one attempt.

        Returns:
            ``{"success": True, "events": sent, "requests": n, "quota_limited": [...]}``.

        Raises:
            ValidationError: an event cannot be sent; nothing was.
            PostHogError: a request failed for good; the message says how many events had been accepted before it.
        """
        batches = plan_batches(self.project_api_key, events, self._clock.wall(), timeout)
        sent = 0
        limited: list[str] = []
        for batch in batches:
            try:
                limited += report_quota(self._carry(batch.request))
            except PostHogError as error:
                total = sum(item.events for item in batches)
                passes = isinstance(error, (ConnectionError, RateLimitError, CircuitBreakerOpen))
                advice = "send the rest again" if passes else "mend the rest before sending it"
                error.args = (f"{error}\n  {sent} of {total} events were accepted before this: {advice}.",)
                raise
            sent += batch.events
        return {"success": True, "events": sent, "requests": len(batches), "quota_limited": sorted(set(limited))}

    def evaluate_flag(
        self,
        key: str,
        distinct_id: str,
        person_properties: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Return a feature flag for one user, as the API answers it: ``key, enabled, variant, reason, metadata``.

        Raises:
            ObjectNotFoundError: there is no such active flag.
            QuotaError: the quota of flag requests is used up.
            ServerError: PostHog could not evaluate the flag.
        """
        return parse_flag(
            self._carry(plan_flag(self.project_api_key, key, distinct_id, person_properties, timeout)), key
        )

    # --- events and persons -------------------------------------------------------------------------------------------

    def get_events(
        self,
        event_name: str | None = None,
        distinct_id: str | None = None,
        after: datetime.datetime | str | None = None,
        before: datetime.datetime | str | None = None,
        limit: int = 100,
        *,
        timeout: float | None = None,
    ) -> QueryResult:
        """Return the newest events; each argument that is given is one condition, and there are no others.

        Args:
            event_name: Name of the event.
            distinct_id: Id of the user.
            after: Only events later than this; text is ISO 8601.
            before: Only events earlier than this.
            limit: Most rows, up to 50,000.
            timeout: Seconds for one attempt.
        """
        from posthog_driver.query_builder import QueryBuilder  # loaded on first use, as few programs build queries

        builder = QueryBuilder().select(*_EVENT_COLUMNS).from_("events").order_by("timestamp", "DESC").limit(limit)
        conditions = (
            ("event", "=", event_name),
            ("distinct_id", "=", distinct_id),
            ("timestamp", ">", to_moment(after, "after")),
            ("timestamp", "<", to_moment(before, "before")),
        )
        for field, operator, value in conditions:
            if value is not None:
                builder.where(field, operator, value)
        return self.query(*builder.build_bound(), timeout=timeout)

    def export_events(
        self,
        start_date: datetime.datetime | str,
        end_date: datetime.datetime | str,
        event_names: Sequence[str] | None = None,
        properties_filter: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> QueryResult:
        """Return the events with ``start_date <= timestamp < end_date``, oldest first, 50,000 at most.

        ``truncated`` tells when there may be more: ask again from the last timestamp on.

        Args:
            start_date: First moment; text is ISO 8601.
            end_date: Moment after the last.
            event_names: Only events of these names.
            properties_filter: Property name to the value it must have (a list: one of them).
            timeout: Seconds for one attempt.
        """
        from posthog_driver.query_builder import QueryBuilder, quote_path

        builder = QueryBuilder().select(*_EVENT_COLUMNS).from_("events")
        for operator, value, name in ((">=", start_date, "start_date"), ("<", end_date, "end_date")):
            if value is None:
                raise ValidationError(f"export_events needs {name}. Nothing was sent.")
            builder.where("timestamp", operator, to_moment(value, name))
        if event_names is not None:
            builder.where("event", "IN", list(event_names))
        for name, value in (properties_filter or {}).items():
            operator = "IN" if isinstance(value, (list, tuple, set, frozenset)) else "="
            builder.where(quote_path("properties", name), operator, value)
        return self.query(*builder.order_by("timestamp").limit(_MOST_ROWS).build_bound(), timeout=timeout)

    def get_persons(
        self,
        search: str | None = None,
        cohort_id: int | None = None,
        properties: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        limit: int = 100,
        *,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """Return persons with their properties.

        Args:
            search: Text in a name, email or distinct id.
            cohort_id: Only members of this cohort.
            properties: PostHog's property filters, or a dict of names and exact values.
            limit: Most persons; pages are followed.
            timeout: Seconds for one attempt.
        """
        if cohort_id is not None and type(cohort_id) is not int:
            raise ValidationError(f"cohort_id is a whole number, not {cohort_id!r:.40}. Nothing was sent.")
        params = {"search": search, "properties": None if properties is None else person_filters(properties)}
        entity = "persons" if cohort_id is None else f"cohorts/{cohort_id}/persons"
        return self._list(entity, timeout, params, limit)

    # --- entities -----------------------------------------------------------------------------------------------------

    def get_cohorts(self, search: str | None = None, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """Return all cohorts, or those with ``search`` in their name (in any case)."""
        wanted = "" if search is None else str(search).lower()
        return [item for item in self._list("cohorts", timeout) if wanted in str(item.get("name", "")).lower()]

    def create_cohort(
        self,
        name: str,
        description: str = "",
        filters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Create a cohort and return it. Retried only when it certainly was not created."""
        return self._create("cohorts", cohort_body(name, description, filters), timeout)

    def get_insights(
        self, insight_type: str | None = None, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> list[dict[str, Any]]:
        """Return saved insights, without their results.

        Args:
            insight_type: ``TRENDS``, ``FUNNELS``, ``RETENTION``, ``SQL``, ...
            limit: Most insights; pages are followed.
            offset: Insights to pass over.
            timeout: Seconds for one attempt.
        """
        return self._list("insights", timeout, {"insight": insight_type, "basic": True}, limit, offset)

    def create_insight(
        self, name: str, insight_type: str, filters: Mapping[str, Any], *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Create an insight and return it. Retried only when it certainly was not created.

        Args:
            name: Its name.
            insight_type: ``TRENDS``, ``FUNNELS``, ...; goes with old-style filters.
            filters: A query node (``{"kind": "TrendsQuery", ...}``, wrapped for display or not), or old-style filters.
            timeout: Seconds for one attempt.
        """
        return self._create("insights", insight_body(name, insight_type, filters), timeout)

    def get_feature_flags(self, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """Return all feature flags."""
        return self._list("feature_flags", timeout)

    def get_experiments(self, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """Return all experiments."""
        return self._list("experiments", timeout)

    def get_annotations(
        self,
        start_date: datetime.datetime | str | None = None,
        end_date: datetime.datetime | str | None = None,
        *,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """Return the annotations with ``start_date <= date_marker <= end_date``, picked here from all of them."""
        start, end = to_moment(start_date, "start_date"), to_moment(end_date, "end_date")
        found = self._list("annotations", timeout)
        return [item for item in found if is_within(item.get("date_marker"), start, end)]

    def create_annotation(
        self,
        content: str,
        date_marker: datetime.datetime | str | None = None,
        scope: str = "project",
        *,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Create an annotation (now, if no moment is given) and return it. Retried only when it was not created."""
        moment = to_moment(date_marker, "date_marker") or datetime.datetime.fromtimestamp(
            self._clock.wall(), datetime.timezone.utc
        )
        return self._create(
            "annotations", {"content": content, "date_marker": moment.isoformat(), "scope": scope}, timeout
        )

    # --- anything else ------------------------------------------------------------------------------------------------

    def request(
        self,
        endpoint: str,
        method: str = "GET",
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Call an endpoint that has no method of its own, with every layer on, and return the decoded JSON.

        Args:
            endpoint: Path below the app host, such as ``/api/projects/1/dashboards/``; with its trailing slash.
            method: HTTP verb. GET is retried; writes only when they certainly were not carried out.
            json: Body.
            params: Query parameters.
            timeout: Seconds for one attempt.

        Raises:
            ValidationError: the path is none; nothing was sent.
            PostHogError: as for the other methods.
        """
        return self._make_request(endpoint, method=method, json=json, params=params, timeout=timeout)

    def _make_request(
        self,
        endpoint: str,
        method: str = "GET",
        *,
        use_capture_url: bool = False,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        request: ApiRequest | None = None,
    ) -> Any:
        """The one way from the client into the transport; everything public goes through it.

        Args:
            endpoint: Path below the host.
            method: HTTP verb.
            use_capture_url: Send to the ingestion host, without the personal key.
            json: Body.
            params: Query parameters.
            timeout: Seconds for one attempt.
            request: The complete request, where more than the above matters.

        Returns:
            Decoded JSON. Where an answer may have none (ingestion, a DELETE), ``{"success": True, "status_code": N}``.
        """
        if request is None:
            method = method.upper()
            request = ApiRequest(
                method,
                checked_path(endpoint),
                json,
                params,
                scope="ingest" if use_capture_url else "crud",
                idempotent=method in ("GET", "HEAD", "OPTIONS"),
                timeout=timeout,
            )
        answer = self._transport.send(request)
        receipt = request.scope == "ingest" and not isinstance(answer.data, dict)  # "1", "Ok", or nothing at all
        if answer.data is not None and not receipt:
            return answer.data
        if receipt or (answer.text is None and _has_no_body(request, answer.status)):
            return {"success": True, "status_code": answer.status}
        raise ResponseFormatError(
            f"PostHog answered {answer.status} to {request.method} {request.path} without a body.\n  Check api_url and "
            "proxies in between.",
            status=answer.status,
            query_id=request.query_id,
        )

    def _carry(self, request: ApiRequest) -> Any:
        """Send a planned request through `_make_request`."""
        return self._make_request(
            request.path,
            method=request.method,
            use_capture_url=request.scope == "ingest",
            json=request.json,
            params=request.params,
            timeout=request.timeout,
            request=request,
        )

    def _create(self, entity: str, body: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        made = self._make_request(f"{self._base}/{entity}/", method="POST", json=body, timeout=timeout)
        return _object(made, f"what was created in {entity}")

    def _list(
        self,
        entity: str,
        timeout: float | None,
        params: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        request = ApiRequest("GET", f"{self._base}/{entity}/", params=params, timeout=timeout)
        return list(iter_pages(self._carry, request, limit=limit, offset=offset))

    # --- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections. The client may be used again; it then opens new ones."""
        self._transport.close()

    def __enter__(self) -> PostHogClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PostHogClient project_id={self.project_id!r} api_url={self.api_url!r}>"


Client = PostHogClient


def _query_limiter(config: PostHogConfig, clock: Clock) -> RateLimiter | None:
    windows = ((config.rate_limit_per_minute, 60.0), (config.rate_limit_per_hour, 3600.0))
    chosen = [(limit, seconds) for limit, seconds in windows if limit is not None]
    return RateLimiter(windows=chosen, clock=clock) if chosen else None


def _has_no_body(request: ApiRequest, status: int) -> bool:
    """Tell whether an answer without a body is what HTTP promises: to a HEAD, to a DELETE, or 204 to a write."""
    return request.method in ("HEAD", "DELETE") or (
        status == 204 and request.scope == "crud" and not request.idempotent
    )


def _object(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ResponseFormatError(f"PostHog's answer for {what} is no object: {data!r:.100}.")
    return data
