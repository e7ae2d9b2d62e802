"""Queries on their way: three at once, each in a thread, so that a slow one can go on while its answer is a cursor.

No lock is held while anything waits or talks. A cancelled query is cancelled in PostHog too, from a thread of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from posthog_driver.exceptions import PostHogError
from posthog_driver.logging_config import carry_context
from posthog_driver.tools.audit import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from posthog_driver._clock import Clock
    from posthog_driver.client import PostHogClient
    from posthog_driver.tools.budget import Ledger

__all__ = ["Cancelled", "Pool", "Run", "WatchedClient", "wait_for"]

T = TypeVar("T")

_LOOK_EVERY = 0.05
# The DELETE may overtake the query that it is to end, or that query may be in line for its turn: then it is sent again.
_CANCEL_AFTER = (0.0, 0.1, 0.3, 1.0, 5.0)

logger = logging.getLogger("posthog_driver.tools")


class Cancelled(PostHogError):
    """The call was cancelled before its query was sent."""


class Run(Generic[T]):
    """One piece of work and what came of it.

    Args:
        handle: Its name in cursors.
        work: What to do; gets the run itself.
        started: Moment on the monotonic clock at which it was asked for.

    Attributes:
        finished: Moment on the monotonic clock at which it was over.
        outcome: What the work returned.
        error: What it raised.
        query_id: Id of the last query that it sent.
    """

    def __init__(self, handle: str, work: Callable[[Run[T]], T], started: float) -> None:
        self.handle = handle
        self.work = work
        self.started = started
        self.finished: float | None = None
        self.outcome: T | None = None
        self.error: BaseException | None = None
        self.query_id: str | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._queries: set[str] = set()
        self._waiting = 0
        self._cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether it is to end, or was ended, before its time."""
        return self._cancelled

    def wait(self, seconds: float) -> bool:
        """Return whether it is over, after so many seconds at most."""
        return self._over.wait(seconds)

    def join(self) -> None:
        """Count one more that waits for it."""
        with self._lock:
            self._waiting += 1

    def leave(self) -> bool:
        """Count one less that waits for it; returns whether nobody does any more."""
        with self._lock:
            self._waiting -= 1
            return not self._waiting

    @contextlib.contextmanager
    def sending(self, query_id: str) -> Iterator[None]:
        """Make a query known that is about to be sent, for as long as it runs.

        Raises:
            Cancelled: the run is cancelled.
        """
        with self._lock:
            if self._cancelled:
                raise Cancelled("the call was cancelled; nothing more is sent for it")
            self._queries.add(query_id)
            self.query_id = query_id
        try:
            yield
        finally:
            with self._lock:
                self._queries.discard(query_id)

    def cancel(self) -> set[str]:
        """Let nothing more be sent; returns the queries that are on their way."""
        with self._lock:
            self._cancelled = True
            return set(self._queries)

    def is_sending(self, query_id: str) -> bool:
        """Whether a query is on its way."""
        with self._lock:
            return query_id in self._queries

    def end(self, now: float, outcome: T | None = None, error: BaseException | None = None) -> None:
        """Say what came of it."""
        self.outcome, self.error, self.finished = outcome, error, now
        self._over.set()


def wait_for(run: Run[Any], clock: Clock, until: float, cancel: threading.Event | None = None) -> bool:
    """Wait for a run until it is over or cancelled, a moment has come, or an event is set; tells whether it is over."""
    while not run.wait(_LOOK_EVERY):
        if run.is_cancelled or (cancel is not None and cancel.is_set()) or clock.monotonic() >= until:
            return run.wait(0)
    return True


class Pool(Generic[T]):
    """Runs work in threads, so many at once, first come first served.

    Args:
        most: Runs at once.
        clock: Where the time comes from.
        cancel_query: Ends a query in PostHog; True if there was one to end.
    """

    def __init__(self, most: int, clock: Clock, cancel_query: Callable[[str], bool]) -> None:
        self._most = most
        self._clock = clock
        self._cancel_query = cancel_query
        self._lock = threading.Lock()
        self._line: deque[tuple[Run[T], Callable[[Run[T]], None]]] = deque()
        self._running: set[Run[T]] = set()
        self._cancelling: set[threading.Thread] = set()
        self._closed = False

    def start(self, run: Run[T]) -> None:
        """Begin a run, or put it in line.

        Raises:
            Cancelled: the pool is closed.
        """
        job = carry_context(self._work)
        with self._lock:
            if self._closed:
                raise Cancelled("the toolkit is closed")
            if len(self._running) >= self._most:
                self._line.append((run, job))
                return
            self._running.add(run)
        self._begin(run, job)

    @property
    def line(self) -> int:
        """How many runs wait for their turn."""
        with self._lock:
            return len(self._line)

    def is_in_line(self, run: Run[T]) -> bool:
        """Whether a run still waits for its turn."""
        with self._lock:
            return any(waiting is run for waiting, _ in self._line)

    def cancel(self, run: Run[T]) -> list[threading.Thread]:
        """End a run, in line or running; returns the threads that tell PostHog."""
        queries = run.cancel()
        with self._lock:
            waiting = [entry for entry in self._line if entry[0] is run]
            for entry in waiting:
                self._line.remove(entry)
        if waiting:
            self._never_began(run)
        stop = carry_context(self._stop)
        threads = [threading.Thread(target=stop, args=(run, query), daemon=True) for query in queries]
        with self._lock:
            self._cancelling.update(threads)
        for thread in threads:
            thread.start()
        return threads

    def close(self, seconds: float) -> None:
        """End everything, and wait so many seconds at most until PostHog is told."""
        with self._lock:
            self._closed = True
            waiting, running = [run for run, _ in self._line], list(self._running)
            self._line.clear()  # first, as whoever ends would let the next begin
        for run in waiting:
            run.cancel()
            self._never_began(run)
        for run in running:
            self.cancel(run)
        with self._lock:
            threads = list(self._cancelling)
        # Waiting for threads is a matter of real time, whatever the clock says.
        last = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(last - time.monotonic(), 0.0))

    def _never_began(self, run: Run[T]) -> None:
        run.end(self._clock.monotonic(), error=Cancelled("the call was cancelled; nothing was sent"))

    def _begin(self, run: Run[T], job: Callable[[Run[T]], None]) -> None:
        try:
            threading.Thread(target=job, args=(run,), name=f"posthog-tools-{run.handle}", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            with self._lock:
                self._running.discard(run)
            run.end(self._clock.monotonic(), error=error)

    def _work(self, run: Run[T]) -> None:
        outcome, error = None, None
        try:
            outcome = run.work(run)
        except BaseException as raised:
            error = raised
        with self._lock:
            self._running.discard(run)
            following = self._line.popleft() if self._line else None
            if following:
                self._running.add(following[0])
        run.end(self._clock.monotonic(), outcome, error)
        if following:
            self._begin(*following)

    def _stop(self, run: Run[T], query_id: str) -> None:
        try:
            for pause in itertools.chain(_CANCEL_AFTER, itertools.repeat(_CANCEL_AFTER[-1])):
                if run.wait(pause) or not run.is_sending(query_id) or self._cancel_query(query_id):
                    return
        except Exception as error:
            logger.warning("query %s could not be cancelled: %s", query_id, scrub(f"{type(error).__name__}: {error}"))
        finally:
            with self._lock:
                self._cancelling.discard(threading.current_thread())


class WatchedClient:
    """The client as tools use it: each of their queries is counted, timed, and known by an id that can be cancelled.

    Everything that is no query goes to the client as it is.

    Args:
        client: The client.
        ledger: Counts.
        clock: Where the time comes from.
    """

    def __init__(self, client: PostHogClient, ledger: Ledger, clock: Clock) -> None:
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._present = threading.local()

    @contextlib.contextmanager
    def serving(self, run: Run[Any]) -> Iterator[None]:
        """Take the queries of this thread for those of a run."""
        before = getattr(self._present, "run", None)
        self._present.run = run
        try:
            yield
        finally:
            self._present.run = before

    def query(self, *arguments: Any, **options: Any) -> Any:
        """Run a HogQL query; see `PostHogClient.query`."""
        return self._watched("query", arguments, options)

    def ask(self, *arguments: Any, **options: Any) -> Any:
        """Ask any query node; see `PostHogClient.ask`."""
        return self._watched("ask", arguments, options)

    def trends(self, *arguments: Any, **options: Any) -> Any:
        """Ask for numbers over time; see `PostHogClient.trends`."""
        return self._watched("trends", arguments, options)

    def funnel(self, *arguments: Any, **options: Any) -> Any:
        """Ask for a funnel; see `PostHogClient.funnel`."""
        return self._watched("funnel", arguments, options)

    def retention(self, *arguments: Any, **options: Any) -> Any:
        """Ask who comes back; see `PostHogClient.retention`."""
        return self._watched("retention", arguments, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _watched(self, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        query_id = options.setdefault("query_id", str(uuid.uuid4()))
        run: Run[Any] | None = getattr(self._present, "run", None)
        with run.sending(query_id) if run else contextlib.nullcontext():
            self._ledger.take_query()
            started = self._clock.monotonic()
            try:
                return getattr(self._client, method)(*arguments, **options)
            finally:
                self._ledger.add_seconds(self._clock.monotonic() - started)
