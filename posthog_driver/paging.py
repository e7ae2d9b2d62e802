"""Lists that come in pages: PostHog's ``limit`` and ``offset``, followed until there is no ``next``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthog_driver.exceptions import ResponseFormatError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from posthog_driver._models import ApiRequest

__all__ = ["PAGE", "iter_pages"]

PAGE = 100
"""Entries that PostHog puts on a page where nobody asks for more (posthog/settings/web.py, PAGE_SIZE)."""


def iter_pages(
    send: Callable[[ApiRequest], Any],
    request: ApiRequest,
    *,
    limit: int | None = None,
    offset: int = 0,
    page: int = PAGE,
) -> Iterator[dict[str, Any]]:
    """Yield the entries of a list, asking for the next page when it is needed.

    The ``next`` link itself is not followed: behind a proxy it may name another host. It only says that there is more.

    Args:
        send: Sends one request and returns its decoded answer.
        request: The GET of the list; ``limit`` and ``offset`` are added to its parameters.
        limit: Most entries; all of them if None.
        offset: Entries to pass over.
        page: Entries to ask for at once.

    Raises:
        ValidationError: ``limit`` or ``offset`` is no whole number of at least 1 and 0; nothing was sent.
        ResponseFormatError: an answer has no list of results.
    """
    for name, number, least in (("limit", limit, 1), ("offset", offset, 0)):
        if number is not None and (type(number) is not int or number < least):
            raise ValidationError(f"{name} is a whole number, at least {least}, not {number!r:.40}. Nothing was sent.")
    return _pages(send, request, limit, offset, page)


def _pages(
    send: Callable[[ApiRequest], Any], request: ApiRequest, limit: int | None, offset: int, page: int
) -> Iterator[dict[str, Any]]:
    given = 0
    while limit is None or given < limit:
        size = page if limit is None else min(page, limit - given)
        answer = send(request._replace(params={**(request.params or {}), "limit": size, "offset": offset + given}))
        # A few small lists (group types) are plain arrays, always whole.
        results = answer if isinstance(answer, list) else answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
            raise ResponseFormatError(f"PostHog's answer to GET {request.path} has no list of results.")
        yield from results if limit is None else results[: limit - given]
        given += len(results)
        if not results or not isinstance(answer, dict) or not answer.get("next"):
            return
