"""Real engines for tests of what stands on them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from posthog_driver.local.engine import Engine

__all__ = ["Engines", "an_engine", "engines"]


class Engines(BaseManager):
    """Makes engines in a child process: inside pytest's they would hang on fork and on Ctrl-C."""

    Engine: Callable[..., Any]


Engines.register("Engine", Engine)


@contextmanager
def engines() -> Iterator[Engines]:
    """Something to make engines with."""
    with Engines(ctx=multiprocessing.get_context("spawn")) as manager:
        yield manager


@contextmanager
def an_engine() -> Iterator[Any]:
    """One engine, which must be idle when it is closed."""
    with engines() as manager:
        engine = manager.Engine()
        yield engine
        assert engine.close()
