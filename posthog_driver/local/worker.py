"""The child process of `LocalPostHog`: one engine, its data, and the server in front of them.

It carries the risks of the two native libraries inside: a query that does not stop, a parser that holds the
interpreter for minutes, a crash. `watch` ends the process when it is stuck, and the parent starts another
one.

The parent writes one JSON line with the settings to standard input and keeps that pipe open; the child
answers with one JSON line on standard output. When the pipe closes, whatever closed it, the child stops.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import EXIT_STUCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from .demo import Demo
    from .engine import Engine
    from .server import LocalServer

INTERPRETER_LIMIT = 30.0
"""Seconds for which the interpreter may be held before the process ends itself."""

CANCEL_AFTER = 2.0
"""Seconds beyond its own limit after which a query is cancelled from outside."""

GIVE_UP_AFTER = 15.0
"""Seconds beyond its own limit after which a query is taken for stuck and the process ends itself."""


def main() -> None:
    """Serve until standard input closes or SIGTERM comes."""
    signal.signal(signal.SIGTERM, _stop)
    _log_to_stderr()
    settings = json.loads(sys.stdin.buffer.readline())
    try:
        engine, demo, server = _open(settings)
    except ModuleNotFoundError as error:
        _answer({"missing": error.name})
    except Exception as error:
        _answer({"error": str(error), "invalid": isinstance(error, ValueError)})
    else:
        with server:
            _serve(settings, engine, demo, server)


def watch(
    engine: Engine,
    stopped: threading.Event,
    parent: int,
    *,
    give_up: Callable[[int], Any] = os._exit,
    every: float = 1.0,
) -> None:
    """Look after the process until ``stopped`` is set.

    The interpreter's own watchdog (a thread without Python code) is set anew in each round: it ends the
    process when no round comes for `INTERPRETER_LIMIT` seconds. A query that runs on beyond its limit is
    cancelled, then given up.

    Args:
        engine: Whose queries are looked at.
        stopped: Set when the process is about to end.
        parent: Process id of the parent; when it is gone, the process stops.
        give_up: What ends the process at once, with an exit code.
        every: Seconds between two rounds.
    """
    try:
        while not stopped.wait(every):
            faulthandler.dump_traceback_later(INTERPRETER_LIMIT, exit=True)
            for query_id in engine.overdue(CANCEL_AFTER):
                engine.cancel(query_id)
            if engine.overdue(GIVE_UP_AFTER):
                give_up(EXIT_STUCK)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _open(settings: dict[str, Any]) -> tuple[Engine, Demo, LocalServer]:
    """Open the storage, fill it, make the server; the parser warms up meanwhile."""
    from . import demo as demo_module
    from .keys import first_keys
    from .queries import QuerySettings
    from .server import build_server

    with ThreadPoolExecutor(1) as pool:
        warm = pool.submit(_first_parse)
        end = settings["end"]
        engine, demo = demo_module.open_storage(
            settings["data"],
            events=settings["events"],
            seed=settings["seed"],
            end=None if end is None else datetime.fromisoformat(end),
        )
        warm.result()
    kept = first_keys(Path(settings["data"]))
    settings |= {name: settings[name] or value for name, value in kept.items()}
    server = build_server(
        engine,
        demo,
        host=settings["host"],
        port=settings["port"],
        personal_api_key=settings["personal_api_key"],
        project_api_key=settings["project_api_key"],
        owner_key=settings["owner_key"],
        scopes=settings["scopes"],
        timezone=settings["timezone"],
        limits=settings["limits"],
        faults=settings["faults"],
        settings=QuerySettings(blocking_seconds=settings["query_seconds"]),
    )
    return engine, demo, server


def _first_parse() -> None:
    """Load the parser; the first parse of a process builds its tables, 130 ms with the C++ one."""
    from .hogql import translate
    from .schema import Catalog

    translate("SELECT event FROM events", Catalog())


def _serve(settings: dict[str, Any], engine: Engine, demo: Demo, server: LocalServer) -> None:
    stopped = threading.Event()
    # Before anything is served: the first query may be the one that killed the child before.
    faulthandler.dump_traceback_later(INTERPRETER_LIMIT, exit=True)
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True),
        threading.Thread(target=watch, args=(engine, stopped, os.getppid()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        _answer(
            {
                "url": server.url,
                "personal_api_key": settings["personal_api_key"],
                "project_api_key": settings["project_api_key"],
                "events": demo.events,
                "seed": demo.seed,
                "end": demo.end.isoformat(),
                "truth": demo.truth,
            }
        )
        os.read(sys.stdin.fileno(), 1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopped.set()
        server.shutdown()
        idle = engine.close()
        if settings["temporary"]:
            shutil.rmtree(settings["data"], ignore_errors=True)
        if not idle:
            os._exit(0)
        for thread in threads:
            thread.join()


def _answer(content: dict[str, Any]) -> None:
    """Write the one line that the parent waits for; what is printed after it goes to standard error."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _log_to_stderr() -> None:
    """A 500 tells the caller nothing; why it was one can be read here."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("posthog-driver local: %(message)s"))
    logging.getLogger(__package__).addHandler(handler)


def _stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
