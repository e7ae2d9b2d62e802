"""The client's methods for product questions; `PostHogClient` inherits them and carries the questions out.

Each plans a query node from its arguments; nodes and answers are `posthog_driver.insights`, which is loaded on first
use, as many programs ask in HogQL alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    from posthog_driver.results import QueryResult

    Event = str | Mapping[str, Any] | None
    Moment = datetime.datetime | datetime.date | str | None

__all__ = ["InsightMethods", "InsightRun"]


class InsightRun(NamedTuple):
    """How a question is run; the arguments that all methods share.

    Attributes:
        query_id: Id to run under; a random one if None.
        fresh: Compute anew instead of taking PostHog's cache.
        timeout: Seconds for one attempt; the client's own if None.
        total_timeout: Seconds for everything; the client's own if None.
    """

    query_id: str | None
    fresh: bool
    timeout: float | None
    total_timeout: float | None


class InsightMethods:
    """Product questions with plain arguments, answered with flat rows.

    The numbers are those of PostHog's own insights, as the same query nodes are asked. All of them are retried, go on
    asynchronously and are cancelled as a query.
    """

    @abstractmethod
    def _insight(self, node: Mapping[str, Any], run: InsightRun, most: int | None = None) -> QueryResult:
        """Ask a question and return its rows, at most so many."""

    def trends(
        self,
        events: Event | Sequence[Event],
        *,
        measure: str = "users",
        of: str | None = None,
        every: str = "day",
        since: Moment = "-30d",
        until: Moment = None,
        by: str | None = None,
        by_limit: int = 25,
        where: Mapping[str, Any] | None = None,
        compare: bool = False,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Count over time, as PostHog's Trends do, and return one row for each event and interval.

        ::

            client.trends(["signed_up", "plan_upgraded"], every="week", since="-8w", by="person.plan")

        Args:
            events: Names of events, one series each (26 at most); ``{"event": ..., "where": {...}}`` narrows one, None
                is any event.
            measure: ``users`` (unique persons), ``events``, ``sessions``; or ``sum, avg, min, max, median, p75, p90,
                p95, p99`` of the property ``of``.
            of: A numeric property; ``person.x`` and ``session.x`` are theirs, anything else is the event's.
            every: ``hour, day, week, month``.
            since: Start: ``-7d, -8w, -3m, mStart, all``, a date, or a moment; text is ISO 8601. Days are those of the
                project's time zone; a moment without a zone is UTC. None is seven days ago, as in PostHog.
            until: End, as ``since``: a day counts whole, a moment to the moment. Now if None.
            by: Split by this property, named as in ``of``.
            by_limit: Values of ``by`` that are told apart, 1 to 1,000; the rest is one row, ``insights.OTHER``.
            where: Properties, named as in ``of``, and what they equal: a value, one of a list, or None for not set.
            compare: Add the period before, of the same length.
            query_id: Id to run under, as for `query`.
            fresh: Compute anew instead of taking PostHog's cache.
            timeout: Seconds for one attempt.
            total_timeout: Seconds for everything.

        Returns:
            Rows ``{"time": "2026-11-20", "event": "signed_up", "value": 12}``, by series and then time; with ``by``
            also ``breakdown`` (None: not set), with ``compare`` also ``period``: ``current`` or ``previous``. ``time``
            is the interval's start in the project's time zone (``2026-11-20 13:00:00`` for hours), the first and the
            last interval may be partial, and one without events has 0. ``truncated`` tells that values of ``by`` are
            summed up.

        Raises:
            ValidationError: an argument cannot be meant; the nearest choice is named, and nothing was sent.
            PostHogError: as for `query`.

        Retried, goes on asynchronously, and is cancelled as a query.
        """
        from posthog_driver._insight_plans import plan_trends

        node = plan_trends(
            events,
            measure=measure,
            of=of,
            every=every,
            since=since,
            until=until,
            by=by,
            by_limit=by_limit,
            where=where,
            compare=compare,
        )
        return self._insight(node, InsightRun(query_id, fresh, timeout, total_timeout))

    def funnel(
        self,
        steps: Sequence[Event],
        *,
        within: datetime.timedelta | str = "14d",
        order: str = "ordered",
        since: Moment = "-30d",
        until: Moment = None,
        by: str | None = None,
        by_limit: int = 25,
        where: Mapping[str, Any] | None = None,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Tell how many persons get how far through steps, as PostHog's Funnels do: one row for each step.

        ::

            client.funnel([{"event": "$pageview", "where": {"$pathname": "/signup"}}, "signed_up"], within="1d")

        Args:
            steps: 2 to 30 events, each as in `trends`.
            within: Time from the first step to the last: a timedelta, or ``45s, 30min, 1h, 14d, 2w, 1mo``.
            order: ``ordered`` (others may come between), ``strict`` (none may), ``any``.
            since: As for `trends`; the whole way lies in the range.
            until: As for `trends`.
            by: As for `trends`; a person's first value counts.
            by_limit: As for `trends`.
            where: As for `trends`, for all steps.
            query_id: Id to run under, as for `query`.
            fresh: Compute anew instead of taking PostHog's cache.
            timeout: Seconds for one attempt.
            total_timeout: Seconds for everything.

        Returns:
            Rows ``{"step": 1, "event": ..., "people": 40, "share_of_first": 1.0, "share_of_previous": None,
            "median_seconds": None}``, with ``by`` also ``breakdown``. Shares are 0 to 1, None where there is nobody to
            be a share of; ``median_seconds`` is the time from the step before, None where nobody took it. With order
            ``any``, row n is who did any n of the steps.

        Raises:
            ValidationError: an argument cannot be meant; nothing was sent.
            PostHogError: as for `query`.

        Retried, goes on asynchronously, and is cancelled as a query.
        """
        from posthog_driver._insight_plans import plan_funnel

        node = plan_funnel(
            steps, within=within, order=order, since=since, until=until, by=by, by_limit=by_limit, where=where
        )
        return self._insight(node, InsightRun(query_id, fresh, timeout, total_timeout))

    def retention(
        self,
        start_event: Event,
        return_event: Event = None,
        *,
        every: str = "week",
        periods: int = 8,
        first_time_only: bool = True,
        since: Moment = None,
        until: Moment = None,
        by: str | None = None,
        by_limit: int = 25,
        where: Mapping[str, Any] | None = None,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Tell who comes back, as PostHog's Retention does: one row for each cohort and period after its start.

        Args:
            start_event: What puts a person into a cohort, as an event of `trends`.
            return_event: What counts as coming back; ``start_event`` if None.
            every: ``hour, day, week, month``: the length of a period.
            periods: Periods of each cohort, 2 to 100, with its own as the first, number 0.
            first_time_only: A person is in one cohort only, that of the first ``start_event`` ever.
            since: First cohort; the last ``periods`` periods if None.
            until: As for `trends`; the last cohort is that of its period.
            by: As for `trends`, without properties of sessions.
            by_limit: As for `trends`.
            where: As for `trends`, for both events.
            query_id: Id to run under, as for `query`.
            fresh: Compute anew instead of taking PostHog's cache.
            timeout: Seconds for one attempt.
            total_timeout: Seconds for everything.

        Returns:
            Rows ``{"cohort": "2026-11-02", "size": 40, "period": 1, "people": 12, "share": 0.3}``, with ``by`` also
            ``breakdown``. Only periods that the range holds are there; the last one of each cohort may still be
            running. ``share`` is None for a cohort of nobody.

        Raises:
            ValidationError: an argument cannot be meant; nothing was sent.
            PostHogError: as for `query`.

        Retried, goes on asynchronously, and is cancelled as a query.
        """
        from posthog_driver._insight_plans import plan_retention

        node = plan_retention(
            start_event,
            return_event,
            every=every,
            periods=periods,
            first_time_only=first_time_only,
            since=since,
            until=until,
            by=by,
            by_limit=by_limit,
            where=where,
        )
        return self._insight(node, InsightRun(query_id, fresh, timeout, total_timeout))

    def lifecycle(
        self,
        event: Event,
        *,
        every: str = "week",
        since: Moment = "-30d",
        until: Moment = None,
        where: Mapping[str, Any] | None = None,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Tell who is ``new``, ``returning``, ``resurrecting`` and ``dormant`` in each interval.

        Arguments, errors and retry are those of `trends`.

        Returns:
            Rows ``{"time": "2026-11-20", "status": "new", "people": 12}``. Dormant are those who did it in the interval
            before and not in this one; their number is above zero here, unlike in PostHog's chart.
        """
        from posthog_driver._insight_plans import plan_lifecycle

        node = plan_lifecycle(event, every=every, since=since, until=until, where=where)
        return self._insight(node, InsightRun(query_id, fresh, timeout, total_timeout))

    def stickiness(
        self,
        events: Event | Sequence[Event],
        *,
        every: str = "day",
        since: Moment = "-30d",
        until: Moment = None,
        where: Mapping[str, Any] | None = None,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Tell how many persons did something in exactly 1, 2, 3, ... intervals of a range.

        Arguments, errors and retry are those of `trends`.

        Returns:
            Rows ``{"event": "file_uploaded", "intervals": 3, "people": 12}``, by event and then intervals.
        """
        from posthog_driver._insight_plans import plan_stickiness

        node = plan_stickiness(events, every=every, since=since, until=until, where=where)
        return self._insight(node, InsightRun(query_id, fresh, timeout, total_timeout))

    def paths(
        self,
        of: str = "pages",
        *,
        start: str | None = None,
        end: str | None = None,
        steps: int = 5,
        limit: int = 50,
        since: Moment = "-30d",
        until: Moment = None,
        where: Mapping[str, Any] | None = None,
        query_id: str | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> QueryResult:
        """Tell from where people go where within a visit (30 minutes without a pause), the most used ways first.

        Args:
            of: ``pages`` (by address), ``screens``, ``events`` (custom ones).
            start: Only paths from this page, screen or event on.
            end: Only paths up to this one.
            steps: Places of a path, 2 to 20.
            limit: Most rows, 1 to 5,000; ``truncated`` tells that there are more.
            since: As for `trends`.
            until: As for `trends`.
            where: As for `trends`.
            query_id: Id to run under, as for `query`.
            fresh: Compute anew instead of taking PostHog's cache.
            timeout: Seconds for one attempt.
            total_timeout: Seconds for everything.

        Returns:
            Rows ``{"step": 1, "source": "/", "target": "/signup", "times": 12, "average_seconds": 40.5}``: the way from
            place ``step`` of a path to the next, and the time it took.

        Raises:
            ValidationError: an argument cannot be meant; nothing was sent.
            PostHogError: as for `query`.

        Retried, goes on asynchronously, and is cancelled as a query.
        """
        from posthog_driver._insight_plans import plan_paths

        node = plan_paths(of, start=start, end=end, steps=steps, limit=limit, since=since, until=until, where=where)
        return self._insight(node, InsightRun(query_id, fresh, timeout, total_timeout), limit)
