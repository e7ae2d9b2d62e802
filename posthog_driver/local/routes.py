"""What a route is: a verb, an address, a handler, and what a key needs for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .database import SYSTEM_SCOPES
from .entities import KINDS
from .faults import Script
from .keys import Key, KeyRing
from .project import Project, Projects
from .wire import Request, Response

__all__ = ["OPEN", "OTHER", "OWNER", "PROJECT", "QUERY", "Account", "Call", "ProjectCall", "Route", "route"]

PROJECT = "/api/projects/{project}"

QUERY, OTHER = "query", "other"
"""The two rate limits that a request can count for."""

OPEN, OWNER = "open", "owner"
"""Routes without a personal key: for everybody, and for whoever started the server."""

_SCOPES_OF_KINDS = {"warehouse_saved_queries": "warehouse_view"}


@dataclass(frozen=True)
class Account:
    """What belongs to the whole server."""

    projects: Projects
    keys: KeyRing
    script: Script


@dataclass(frozen=True)
class Call:
    """A request that may be answered, and what its handler needs for that.

    Attributes:
        request: What is asked.
        account: What belongs to the whole server.
        key: The key it came with; `NOBODY` on a route that needs none.
    """

    request: Request
    account: Account
    key: Key

    @property
    def denied(self) -> frozenset[str]:
        """What system tables show and the key may not read; see `Catalog.denied`."""
        return frozenset(scope for scope in SYSTEM_SCOPES if not self.key.allows(f"{scope}:read"))


@dataclass(frozen=True)
class ProjectCall(Call):
    """A call that is about one project."""

    project: Project


@dataclass(frozen=True)
class Route:
    """One thing that the API answers.

    Attributes:
        method: The verb.
        pattern: The path.
        handler: Takes the call and the places in the path.
        scope: What a key must hold, empty for any key; or `OPEN`, `OWNER`. ``{kind}`` in it stands for the kind of
            entity in the path.
        budget: Which rate limit it counts for.
    """

    method: str
    pattern: re.Pattern[str]
    handler: Callable[..., Response]
    scope: str
    budget: str

    def needs(self, places: dict[str, str]) -> str:
        """Return the scope that a key must hold for a path."""
        kind = places.get("kind", "")
        return self.scope.replace("{kind}", _SCOPES_OF_KINDS.get(kind, kind.removesuffix("s")))


def route(method: str, path: str, handler: Callable[..., Response], scope: str, budget: str = OTHER) -> Route:
    """Make a route; ``{name}`` stands for one part of the path, and the slash at the end may be missing."""
    parts = {"kind": "|".join(KINDS)}
    pattern = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{parts.get(m[1], '[^/]+')})", path.rstrip("/"))
    return Route(method, re.compile(f"{pattern}/?"), handler, scope, budget)
