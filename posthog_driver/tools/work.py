"""What each tool does, in the thread of its run: from checked arguments to rows, or to what is wrong."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast

from posthog_driver.exceptions import (
    ConfigurationError,
    PostHogError,
    QueryError,
    QueryTimeoutError,
    QueryTooHeavyError,
    ValidationError,
)
from posthog_driver.tools import questions, repair
from posthog_driver.tools.audit import scrub
from posthog_driver.tools.budget import BudgetError
from posthog_driver.tools.kept import keep
from posthog_driver.tools.layout import Block, count, escape
from posthog_driver.tools.names import Names
from posthog_driver.tools.notes import advise
from posthog_driver.tools.repair import Problem
from posthog_driver.tools.running import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from posthog_driver._clock import Clock
    from posthog_driver.client import PostHogClient
    from posthog_driver.results import QueryResult
    from posthog_driver.tools.budget import Budget
    from posthog_driver.tools.discovery import SchemaAnswers
    from posthog_driver.tools.pii import ColumnPolicy
    from posthog_driver.tools.running import Run, WatchedClient

__all__ = ["Outcome", "Sandbox", "Work", "problem"]

Outcome = Block | Problem | str
"""Rows, an error, or a sentence."""

_MOST_ROWS = 50_000
_MOST_WORDS = 800
_REFRESH_SECONDS = 60.0

logger = logging.getLogger("posthog_driver.tools")


class Sandbox(Protocol):
    """Where ``posthog_python`` runs code."""

    def run_python(self, code: str, *, query: Callable[..., list[dict[str, Any]]]) -> Any:
        """Run a script and return what it printed, as text or as something whose ``str()`` is that text.

        A result may have an ``exit_code``, with which anything but 0 is an error, and say that it is ``truncated``.

        Args:
            code: The script; ``query(hogql, values=None)`` in it answers with a list of dicts.
            query: What answers it, outside; it may be called from any thread.

        Raises:
            PostHogError: the script could not be run.
        """
        ...


def problem(kind: str, fix: str, then: str) -> Problem:
    """Return an error that is about no place in a query."""
    return Problem(kind, None, "", escape(fix), then)


class Work:
    """Does what the tools promise.

    Args:
        client: The client, watched.
        schema: Answers what exists.
        policy: What becomes of personal data.
        budget: How much of a result is kept.
        sandbox: Where code runs, if anywhere.
        clock: Where the time comes from.
    """

    def __init__(
        self,
        client: WatchedClient,
        schema: SchemaAnswers,
        policy: ColumnPolicy,
        budget: Budget,
        sandbox: Sandbox | None,
        clock: Clock,
    ) -> None:
        self._watched = client
        self._client = cast("PostHogClient", client)
        self._schema = schema
        self._policy = policy
        self._budget = budget
        self._sandbox = sandbox
        self._clock = clock
        self._lock = threading.Lock()
        self._next_refresh = -math.inf

    def do(self, name: str, arguments: Mapping[str, Any], run: Run[Outcome]) -> Outcome:
        """Return what a tool answers to arguments that fit its schema.

        Raises:
            Cancelled: the run is cancelled.
        """
        try:
            with self._watched.serving(run):
                if name == "posthog_query":
                    return self._check(arguments) if arguments.get("check_only") else self._query(arguments)
                if name == "posthog_schema":
                    return self._ready(self._schema.answer(arguments, self._policy))
                if name == "posthog_python":
                    return self._python(arguments["code"], run)
                return self._ready(questions.answer(name, arguments, self._client, self._policy))
        except Cancelled:
            raise
        except BudgetError as error:
            return problem("budget", str(error), "answer with what is known by now, and say that the budget ended")
        except PostHogError as error:
            if run.is_cancelled:
                raise Cancelled("the query was cancelled") from error
            if isinstance(error, ValidationError) and not isinstance(error, ConfigurationError):
                # Our own words, about what the model sent; PostHog was not asked.
                words = " ".join(str(error).split()).removesuffix(" Nothing was sent.")
                return problem("bad_argument", words[:_MOST_WORDS], "correct the call and send it again")
            return self._explained(error, arguments)

    # --- HogQL --------------------------------------------------------------------------------------------------------

    def _query(self, arguments: Mapping[str, Any]) -> Block:
        query, values = arguments["query"], arguments.get("values")
        block = _block(self._client.query(query, values))
        block = block._replace(notes=advise(query, block.rows, self._names, values))
        return self._ready(self._policy.protect(keep(block, self._budget)))

    def _check(self, arguments: Mapping[str, Any]) -> Outcome:
        found = self._metadata(arguments)
        errors = found.get("errors")
        if errors or found.get("isValid") is False:
            first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
            words = str(first.get("message") or "the query is not valid")
            error = QueryError(words, detail=words, position=first.get("start"), end=first.get("end"))
            return self._mended(error, arguments["query"], found)
        notes = advise(arguments["query"], [[True]], values=arguments.get("values"))
        warnings = [item for item in found.get("warnings") or () if isinstance(item, dict)]
        if not warnings:
            return "\n".join(["valid, nothing was run", *map(escape, notes)])
        rows = [[item.get(name) for name in ("message", "start", "end", "fix")] for item in warnings]
        block = Block(("warning", "from", "to", "fix"), rows, facts=("valid", "nothing was run"), notes=notes)
        return self._ready(self._policy.protect(block))

    def _metadata(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        body = {"kind": "HogQLMetadata", "language": "hogQL", "query": arguments["query"]}
        if arguments.get("values"):
            body["globals"] = arguments["values"]
        return self._client.ask(body)

    def _explained(self, error: PostHogError, arguments: Mapping[str, Any]) -> Problem:
        """Say what is wrong; a query that PostHog refused is looked at once more, without running it."""
        query = arguments.get("query", "")
        is_refusal = isinstance(error, QueryError) and not isinstance(error, (QueryTimeoutError, QueryTooHeavyError))
        if not (query and is_refusal and 400 <= (error.status or 400) < 500):
            return self._safe(repair.explain(error, query, Names(), None))
        metadata = None
        try:
            metadata = self._metadata(arguments)
        except Cancelled:
            raise
        except PostHogError as second:
            logger.info("a refused query could not be looked at: %s", scrub(str(second)))
        return self._mended(error, query, metadata)

    def _mended(self, error: PostHogError, query: str, metadata: dict[str, Any] | None) -> Problem:
        """Say how a query is mended with the names that exist; a name that none is like may be a new one."""
        found = repair.explain(error, query, self._names(), metadata)
        if found.kind.startswith("unknown_") and found.rewritten is None and self._refreshes():
            found = repair.explain(error, query, self._names(), metadata)
        return self._safe(found)

    def _refreshes(self) -> bool:
        """Read the names anew, unless that was done just now."""
        now = self._clock.monotonic()
        with self._lock:
            if now < self._next_refresh:
                return False
            self._next_refresh = now + _REFRESH_SECONDS
        try:
            self._schema.refresh()
        except PostHogError as error:
            logger.info("names for a hint could not be refreshed: %s", scrub(str(error)))
            return False
        return True

    def _safe(self, found: Problem) -> Problem:
        """Return a problem without personal data in what it quotes."""
        return dataclasses.replace(found, quoted=tuple(map(self._policy.text, found.quoted)))

    def _names(self) -> Names:
        try:
            return self._schema.names()
        except PostHogError as error:
            logger.info("names for a hint could not be had: %s", scrub(str(error)))
            return Names()

    # --- Python -------------------------------------------------------------------------------------------------------

    def _python(self, code: str, run: Run[Outcome]) -> Outcome:
        def query(hogql: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
            wrong = repair.check_query(hogql, values)
            if wrong:
                raise ValidationError(wrong.text())
            with self._watched.serving(run):
                result = self._client.query(hogql, values)
            columns, rows, _ = self._policy.apply(result.columns, [list(row.values()) for row in result])
            return [dict(zip(columns, row, strict=True)) for row in rows]

        sandbox = cast("Sandbox", self._sandbox)  # the tool is refused where there is none
        try:
            output = sandbox.run_python(code, query=query)
        except (BudgetError, Cancelled):
            raise
        except PostHogError as error:
            words = self._policy.text(str(error).partition("\n")[0][:_MOST_WORDS])
            return problem("sandbox", words, "change the script, or use posthog_query")
        lines = [[line] for line in str(output).splitlines()]
        block = Block(("output",), lines, facts=("printed",), advice="print less", long_cells=True)
        if getattr(output, "truncated", False):
            block = block._replace(source="cut")
        if code_of_exit := getattr(output, "exit_code", 0):
            block = block._replace(problem="script", facts=(f"exit code {code_of_exit}",))
        return self._ready(self._policy.protect(keep(block, self._budget)))

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _ready(self, block: Block) -> Block:
        """Return a block as it is kept: no more rows than that, and no secret in any of them."""
        kept = keep(block, self._budget)
        hidden = 0

        def clean(value: Any) -> Any:
            nonlocal hidden
            if isinstance(value, str):
                scrubbed = scrub(value)
                hidden += scrubbed != value
                return scrubbed
            if isinstance(value, dict):
                return {clean(name): clean(inner) for name, inner in value.items()}
            return [clean(inner) for inner in value] if isinstance(value, (list, tuple)) else value

        kept = kept._replace(columns=tuple(map(clean, kept.columns)), rows=[list(map(clean, row)) for row in kept.rows])
        if not hidden:
            return kept
        return kept._replace(
            notes=(*kept.notes, f"{count(hidden, 'text')} with what looks like a key or a secret: masked")
        )


def _block(result: QueryResult) -> Block:
    """Return the rows of a query, with what is known about the ones that are missing."""
    info = result.info
    block = Block(info.columns, [list(row.values()) for row in result], info.types, info.timezone)
    block = block._replace(facts=_facts(result))
    if not result.truncated:
        return block
    if info.limit is not None:
        advice = f"write LIMIT, which PostHog had to set to {info.limit} (50000 are the most), or aggregate in SQL"
        return block._replace(source="cut", advice=advice)
    if len(result) >= _MOST_ROWS:
        return block._replace(
            source="perhaps", advice="aggregate in SQL, or narrow WHERE: no query gives more than 50000"
        )
    return block._replace(source="perhaps", advice="put one SELECT ... LIMIT around the whole UNION")


def _facts(result: QueryResult) -> tuple[str, ...]:
    info = result.info
    facts = [f"{info.elapsed:.1f} s"]
    if info.is_cached:
        facts.append(f"from PostHog's cache{f' of {info.last_refresh}' if info.last_refresh else ''}")
    return tuple(facts)
