"""The dispatcher: a call of a model in, an answer out, and never an exception.

A call is checked against its tool's schema, runs in one of three threads, and is answered with whole rows inside a
fence, within a budget, and with what is missing said. What takes longer than a client waits goes on, and is answered
with a cursor. Rows stay for a while, so that pages and repeated questions cost no query.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import threading
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver._clock import SystemClock
from posthog_driver.logging_config import redact
from posthog_driver.tools import repair
from posthog_driver.tools.arguments import ArgumentError, check, nearest
from posthog_driver.tools.audit import Audit, Call, scrub, scrub_keys
from posthog_driver.tools.budget import Budget, BudgetError, Ledger
from posthog_driver.tools.definitions import INSTRUCTIONS, PYTHON_TOOL, SIMPLE_TOOL, SYSTEM_PROMPT, TOOLS
from posthog_driver.tools.discovery import SchemaAnswers
from posthog_driver.tools.escaping import is_safe
from posthog_driver.tools.kept import Cursor, Shelf, read_cursor
from posthog_driver.tools.layout import Block, escape, fence, lay_out, new_fence_id
from posthog_driver.tools.operations import Meant, resolve
from posthog_driver.tools.pii import ColumnPolicy
from posthog_driver.tools.repair import Problem
from posthog_driver.tools.running import Cancelled, Pool, Run, WatchedClient, wait_for
from posthog_driver.tools.work import Outcome, Work, problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from posthog_driver._clock import Clock
    from posthog_driver.client import PostHogClient
    from posthog_driver.tools.definitions import Tool
    from posthog_driver.tools.work import Sandbox

__all__ = ["Answer", "Toolkit"]

_CLOSE_SECONDS = 2.0
_CANCEL_SECONDS = 5.0
_INTERRUPT_SECONDS = 1.0
_AGAIN = "correct the call and send it again"

logger = logging.getLogger("posthog_driver.tools")


class Answer(NamedTuple):
    """What a model gets.

    Attributes:
        text: The text to show it.
        is_error: Whether the call failed.
        meta: Facts for programs: ``tool``, ``kind`` of the error, ``rows`` in the text, ``total`` that are kept,
            ``complete``, ``cursor`` to read on with, ``running``, ``cached`` (age in seconds), ``query_id``,
            ``seconds``, ``reference`` of an internal error; only those that are known. A tool that is none is ``""``.
    """

    text: str
    is_error: bool
    meta: dict[str, Any]


class _Refused(Exception):
    """A call that is answered with a problem before anything is run."""

    def __init__(self, found: Problem) -> None:
        super().__init__(found.kind)
        self.problem = found


def _refuse(kind: str, fix: str, then: str = _AGAIN) -> _Refused:
    return _Refused(problem(kind, fix, then))


class _Request(NamedTuple):
    """A call as it is to be answered, and until when."""

    meant: Meant
    until: float
    cancel: threading.Event | None
    started: float


class Toolkit:
    """The tools of one conversation with one project. Thread-safe: calls of one turn may come side by side.

    Args:
        client: The client of the project.
        pii: What becomes of personal data: ``mask`` (pseudonyms), ``drop``, ``show``, or a `ColumnPolicy`.
        budget: Limits of answers and of the conversation.
        clock: Where the time comes from.
        audit: Takes a JSON line for each call: a function, a logger, or an `Audit`.
        sandbox: Where ``posthog_python`` runs code; without one the tool is not offered.
    """

    def __init__(
        self,
        client: PostHogClient,
        *,
        pii: str | ColumnPolicy = "mask",
        budget: Budget | None = None,
        clock: Clock | None = None,
        audit: Audit | Callable[[str], None] | logging.Logger | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.budget = budget or Budget()
        self.ledger = Ledger(self.budget)
        self.conversation = secrets.token_hex(6)
        self._clock = clock = clock or SystemClock()
        self._audit = audit if audit is None or isinstance(audit, Audit) else Audit(audit)
        self._tools = {tool.name: tool for tool in (*TOOLS, *((PYTHON_TOOL,) if sandbox else ()))}
        watched: Any = WatchedClient(client, self.ledger, clock)
        policy = pii if isinstance(pii, ColumnPolicy) else ColumnPolicy(pii)
        self._work = Work(watched, SchemaAnswers(watched, clock), policy, self.budget, sandbox, clock)
        self._shelf: Shelf[Run[Outcome]] = Shelf(self.budget, clock.monotonic)
        self._pool: Pool[Outcome] = Pool(
            self.budget.running, clock, lambda query_id: client.cancel_query(query_id, timeout=_CANCEL_SECONDS)
        )

    # --- for the request to the model ---------------------------------------------------------------------------------

    def definitions(
        self, strict: bool = False, simple: bool = False, *, examples: bool = False
    ) -> list[dict[str, Any]]:
        """Return the tools as the Messages API takes them.

        Args:
            strict: For constrained sampling: ``strict: true``, and maps as lists of ``{name, value}``.
            simple: The single tool `TOOL` instead of the five.
            examples: With ``input_examples``.
        """
        tools = (SIMPLE_TOOL,) if simple else self._tools.values()
        return [tool.entry(strict=strict, examples=examples) for tool in tools]

    def system_prompt(self, simple: bool = False) -> str:
        """Return the system prompt that goes with the definitions; it never changes, so that it can be cached."""
        return SYSTEM_PROMPT if simple else INSTRUCTIONS

    # --- for what the model calls -------------------------------------------------------------------------------------

    def handle(self, tool_use: Any) -> dict[str, Any]:
        """Answer a ``tool_use`` block (a dict, or an object with attributes) with its ``tool_result`` block."""
        name, arguments, id = (
            tool_use.get(key) if isinstance(tool_use, dict) else getattr(tool_use, key, None)
            for key in ("name", "input", "id")
        )
        answer = self.dispatch(name, arguments)
        return {"type": "tool_result", "tool_use_id": id, "content": answer.text, "is_error": answer.is_error}

    def dispatch(
        self,
        name: Any,
        arguments: Any,
        *,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """Answer a call; never raises.

        Args:
            name: Name of the tool.
            arguments: Its arguments, as the model sent them.
            deadline: Moment on the clock's ``monotonic()`` at which the query is cancelled. Without one, a query that
                is slower than ``budget.wait`` goes on, and is answered with a cursor.
            cancel: Cancels the query, in PostHog too, once it is set.
        """
        started = self._clock.monotonic()
        tool = name if isinstance(name, str) else ""
        checked = None
        try:
            self.ledger.check_tokens()
            checked = self._checked(tool, arguments)
            until = math.inf if deadline is None else deadline
            answer = self._answered(_Request(resolve(tool, checked), until, cancel, started))
        except ArgumentError as error:
            answer = self._problem(problem("bad_argument", str(error), _AGAIN))
        except _Refused as refused:
            answer = self._problem(refused.problem)
        except BudgetError as error:
            answer = self._problem(problem("budget", str(error), "answer with what is known, and say that it ended"))
        except Exception as error:
            answer = self._bug(tool, error)
        known = tool in self._tools or tool == SIMPLE_TOOL.name
        answer.meta.update(tool=tool if known else "", seconds=round(self._clock.monotonic() - started, 3))
        self.ledger.add_text(answer.text)
        if self._audit:
            self._record(self._audit, tool, arguments if checked is None else checked, checked is not None, answer)
        return answer

    def close(self) -> None:
        """Cancel what runs, in PostHog too, and forget what is kept; later calls are answered with an error."""
        self._pool.close(_CLOSE_SECONDS)
        self._shelf.clear()

    def __enter__(self) -> Toolkit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- checks -------------------------------------------------------------------------------------------------------

    def _checked(self, name: str, arguments: Any) -> dict[str, Any]:
        tool: Tool | None = SIMPLE_TOOL if name == SIMPLE_TOOL.name else self._tools.get(name)
        if tool is None:
            meant = nearest(name, self._tools)
            advice = f"did you mean {meant}?" if meant else f"there are {', '.join(self._tools)}"
            raise _refuse("unknown_tool", f"there is no tool of this name; {advice}")
        if tool is SIMPLE_TOOL and isinstance(arguments, dict) and arguments.get("cursor"):
            arguments = {"operation": "query", **arguments}
        return check(tool, {} if arguments is None else arguments)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _answered(self, request: _Request) -> Answer:
        tool, arguments, _ = request.meant
        if "cursor" in arguments:
            run, cursor = self._found(arguments["cursor"])
            return self._awaited(request, run, cursor, None)
        if "query" in arguments and (wrong := repair.check_query(arguments["query"], arguments.get("values"))):
            raise _Refused(wrong)
        key = _key(tool, arguments)
        if kept := self._shelf.find(key):
            run, age = kept
            return self._awaited(request, run, Cursor(run.handle, 0), age if run.finished is not None else None)
        if self._pool.line >= self.budget.kept_results:
            raise _refuse("busy", "too many queries wait for their turn", "read the answers of those first")
        handle = self._shelf.new_handle()
        run = Run(handle, lambda run: self._work.do(tool, arguments, run), self._clock.monotonic())
        self._shelf.put(run.handle, run, key)
        try:
            self._pool.start(run)
        except Cancelled as error:
            self._shelf.drop(run.handle)
            raise _refuse("cancelled", f"nothing was run: {error}", "stop") from error
        return self._awaited(request, run, Cursor(run.handle, 0), None)

    def _found(self, text: str) -> tuple[Run[Outcome], Cursor]:
        cursor = read_cursor(text)
        if cursor is None:
            raise _refuse("bad_argument", "cursor is what an answer gave, such as q7.100")
        run = self._shelf.get(cursor.handle)
        if run is None:
            kept = f"{self.budget.kept_seconds / 60:.0f} minutes"
            fix = f"{cursor.handle} is not kept: results stay for {kept}, and {self.budget.kept_results} of them"
            raise _refuse("bad_argument", fix, "send the query again")
        return run, cursor

    def _awaited(self, request: _Request, run: Run[Outcome], cursor: Cursor, age: float | None) -> Answer:
        """Wait for a run as long as the request may, and answer."""
        patience = request.started + self.budget.wait
        run.join()
        try:
            over = wait_for(run, self._clock, min(patience, request.until), request.cancel)
        except BaseException:  # Ctrl-C in the middle of the wait
            for thread in self._leave(run, give_up=True):
                thread.join(_INTERRUPT_SECONDS)
            raise
        is_late = self._clock.monotonic() >= request.until
        give_up = not over and (is_late or (request.cancel is not None and request.cancel.is_set()))
        self._leave(run, give_up)
        if over or run.is_cancelled:
            answer = self._told(request, run, cursor, age, is_late)
        else:
            answer = self._problem(_given_up(is_late)) if give_up else self._still_running(request, run)
        if run.query_id:
            answer.meta["query_id"] = run.query_id
        return answer

    def _leave(self, run: Run[Outcome], give_up: bool) -> list[threading.Thread]:
        """Wait for a run no longer; who gives it up as the last cancels it. Returns the threads that tell PostHog."""
        if not run.leave() or not give_up:
            return []
        self._shelf.drop(run.handle)
        return self._pool.cancel(run)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _told(self, request: _Request, run: Run[Outcome], cursor: Cursor, age: float | None, is_late: bool) -> Answer:
        outcome = run.outcome
        if isinstance(outcome, Block) and not run.is_cancelled:
            answer = self._page(request, outcome, cursor, age)
        else:
            self._shelf.drop(run.handle)
            if run.is_cancelled or isinstance(run.error, Cancelled):
                answer = self._problem(_given_up(is_late))
            elif isinstance(outcome, Problem):
                answer = self._problem(outcome)
            elif isinstance(outcome, str):
                answer = Answer(self._with_warning(outcome), False, {"complete": True})
            else:
                answer = self._bug(request.meant.tool, run.error or TypeError("a run without an outcome"))
        return answer

    def _page(self, request: _Request, block: Block, cursor: Cursor, age: float | None) -> Answer:
        total = len(block.rows)
        if cursor.first and cursor.first >= total:
            raise _refuse("bad_argument", f"{cursor.handle} has {total} rows: there are none from {cursor.first} on")
        limits = self.budget.limits(request.meant.arguments.get("max_rows"))
        facts = (*block.facts, *((f"cached {age:.0f} s",) if age is not None else ()))
        warning = self.ledger.warning()
        page = block._replace(
            rows=block.rows[cursor.first : cursor.first + limits.rows],
            first=cursor.first,
            total=total,
            handle=cursor.handle,
            tool=request.meant.reads_on,
            facts=facts,
            notes=(*block.notes, *((warning,) if warning else ())),
        )
        laid = lay_out(page, limits)
        meta: dict[str, Any] = {"rows": laid.shown, "total": total, "complete": laid.complete, "handle": cursor.handle}
        if laid.left:
            meta["cursor"] = str(Cursor(cursor.handle, cursor.first + laid.shown))
        if age is not None:
            meta["cached"] = round(age, 3)
        if block.problem:
            meta["kind"] = block.problem
        return Answer(scrub_keys(laid.text), bool(block.problem), meta)

    def _still_running(self, request: _Request, run: Run[Outcome]) -> Answer:
        in_line = self._pool.is_in_line(run)
        state = f"waiting for its turn ({self.budget.running} queries run at once)" if in_line else "running"
        text = (
            f"{state} for {self._clock.monotonic() - run.started:.0f} s, cursor {run.handle}. "
            f'next: {request.meant.reads_on} {{"cursor":"{run.handle}"}} waits for it'
        )
        return Answer(self._with_warning(text), False, {"running": True, "complete": False, "cursor": run.handle})

    def _problem(self, found: Problem) -> Answer:
        fence_id = new_fence_id()
        around = fence((), fence_id).split("\n")
        lines = [line if line in around else _harmless(line) for line in found.text(fence_id).split("\n")]
        return Answer(self._with_warning("\n".join(lines)), True, {"kind": found.kind})

    def _bug(self, tool: str, error: BaseException) -> Answer:
        reference = secrets.token_hex(4)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        logger.error("tool %s failed, reference %s\n%s", tool if tool in self._tools else "?", reference, redact(trace))
        fix = f"a fault on this side, nothing that the call could do better; reference {reference}"
        answer = self._problem(problem("internal", fix, "go another way, and tell the user the reference"))
        answer.meta["reference"] = reference
        return answer

    def _with_warning(self, text: str) -> str:
        warning = self.ledger.warning()
        return f"{text}\n{warning}" if warning else text

    def _record(self, audit: Audit, tool: str, arguments: Any, valid: bool, answer: Answer) -> None:
        meta = answer.meta
        facts: dict[str, Any] = {
            key: meta[key] for key in ("query_id", "rows", "complete", "cached", "reference") if key in meta
        }
        facts["characters"] = len(answer.text)
        outcome = meta.get("kind") or ("running" if meta.get("running") else "ok")
        audit.write(
            Call(self.conversation, tool, arguments, valid, outcome, facts, meta["seconds"]), self._clock.wall()
        )


def _key(tool: str, arguments: dict[str, Any]) -> str:
    """Return what makes two questions the same; nothing where answers are kept elsewhere, or nothing is run."""
    if tool in ("posthog_schema", "posthog_python") or arguments.get("check_only"):
        return ""
    asked = {name: value for name, value in arguments.items() if name not in ("max_rows", "check_only")}
    return json.dumps([tool, asked], sort_keys=True)


def _harmless(line: str) -> str:
    """Return a line without secrets, and without tags even where it was put together from pieces."""
    line = scrub(line)
    return line if is_safe(line) else escape(line)


def _given_up(is_late: bool) -> Problem:
    if is_late:
        return problem(
            "timeout", "the time for this call is over; the query was cancelled", "ask for less: narrow the period"
        )
    return problem("cancelled", "the call was cancelled, and the query with it", "stop, or ask for something else")
