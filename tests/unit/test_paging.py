"""Lists come whole, page by page, and never follow a link to another host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from posthog_driver._models import ApiRequest
from posthog_driver.exceptions import ResponseFormatError, ValidationError
from posthog_driver.paging import iter_pages

LIST = ApiRequest("GET", "/api/projects/1/cohorts/", params={"search": "x"})


class Server:
    """Has so many entries, and puts at most ``most`` on a page whatever is asked for."""

    def __init__(self, entries: int, most: int = 1_000) -> None:
        self.entries = [{"id": number} for number in range(entries)]
        self.most = most
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: ApiRequest) -> dict[str, Any]:
        params = dict(request.params or {})
        self.asked.append(params)
        start = params["offset"]
        end = start + min(params["limit"], self.most)
        more = "https://elsewhere.example/next" if end < len(self.entries) else None
        return {"count": len(self.entries), "next": more, "results": self.entries[start:end]}


def ids(found: Iterator[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in found]


@pytest.mark.parametrize("most", [1_000, 30])
def test_all_entries_come_in_order_even_if_pages_are_shorter_than_asked_for(most: int) -> None:
    server = Server(250, most)
    assert ids(iter_pages(server, LIST)) == list(range(250))
    assert all(asked["search"] == "x" for asked in server.asked)


def test_pages_are_asked_for_when_they_are_needed() -> None:
    server = Server(250)
    found = iter_pages(server, LIST)
    assert server.asked == []
    assert next(found) == {"id": 0}
    assert len(server.asked) == 1


@pytest.mark.parametrize(("limit", "sizes"), [(5, [5]), (100, [100]), (130, [100, 30])])
def test_no_more_is_asked_for_than_wanted(limit: int, sizes: list[int]) -> None:
    server = Server(250)
    assert ids(iter_pages(server, LIST, limit=limit, offset=7)) == list(range(7, 7 + limit))
    assert [asked["limit"] for asked in server.asked] == sizes


def test_an_answer_longer_than_asked_for_is_not_given_beyond_the_limit() -> None:
    page = {"results": [{"id": number} for number in range(9)], "next": None}
    assert ids(iter_pages(lambda request: page, LIST, limit=4)) == [0, 1, 2, 3]


def test_a_plain_array_is_a_whole_list() -> None:
    assert ids(iter_pages(lambda request: [{"id": 1}, {"id": 2}], LIST)) == [1, 2]


def test_an_empty_page_ends_the_list_even_if_it_promises_more() -> None:
    assert ids(iter_pages(lambda request: {"results": [], "next": "https://x.example"}, LIST)) == []


@pytest.mark.parametrize("answer", [None, 5, {}, {"results": None}, {"results": ["a"]}, ["a"]])
def test_what_is_no_list_of_objects_is_an_error(answer: Any) -> None:
    with pytest.raises(ResponseFormatError, match=r"GET /api/projects/1/cohorts/ has no list"):
        list(iter_pages(lambda request: answer, LIST))


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": True}, {"limit": "5"}, {"offset": -1}, {"offset": 1.0}])
def test_bounds_that_are_no_numbers_are_refused_before_anything_is_asked(options: dict[str, Any]) -> None:
    server = Server(5)
    with pytest.raises(ValidationError, match=r"whole number.*Nothing was sent"):
        iter_pages(server, LIST, **options)
    assert server.asked == []
