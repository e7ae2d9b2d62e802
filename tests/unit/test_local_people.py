"""Persons and groups of the embedded PostHog: which HogQL is asked, and what is made of the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.errors import ApiError
from posthog_driver.local.groups import Groups
from posthog_driver.local.identities import Identities
from posthog_driver.local.people import People, asked_filters, contains
from posthog_driver.local.schema import Catalog
from posthog_driver.local.tabular import in_format
from posthog_driver.local.wire import Request

ID = "01900000-0000-7000-8000-000000000001"


class FakeQueries:
    """Answers each query by the first words of it that are known, and remembers all."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def rows(self, hogql: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        self.asked.append((hogql, values or {}))
        starts = {
            "SELECT count()": "count",
            "SELECT id": "persons",
            "SELECT person_id": "distinct_ids",
            "SELECT key": "groups",
            "SELECT properties": "properties",
            "SELECT DISTINCT": "seen",
        }
        return self.answers.get(next(name for start, name in starts.items() if hogql.startswith(start)), [])


def row(number: int = 1, properties: str = "{}") -> dict[str, Any]:
    return {
        "id": f"{ID[:-1]}{number}",
        "created_at": "2026-01-01T00:00:00Z",
        "properties": properties,
        "is_identified": 1,
    }


def asked(target: str) -> Request:
    return Request.parse("GET", target, base_url="http://127.0.0.1:1")


def people(queries: FakeQueries) -> People:
    return People(queries, Catalog)


def person_filter(operator: str | None, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"key": "plan", "operator": operator, "value": value, **more}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], "true"),
        ([person_filter("is_set")], "isNotNull(properties.plan)"),
        ({"type": "cohort", "key": "id", "value": 5}, "id IN COHORT 5"),
        ({"type": "hogql", "key": "1 = 2"}, "1 = 2"),
    ],
)
def test_filters_without_a_type_are_about_what_is_listed(filters: Any, expected: str) -> None:
    found = asked_filters(json.dumps(filters), "person", Catalog())

    assert expected in found.hogql
    inside = {"type": "OR", "values": [{"type": "AND", "values": [person_filter("exact", "secret")]}]}
    nested = asked_filters(json.dumps(inside), "person", Catalog())
    assert "properties.plan" in nested.hogql
    assert "secret" not in nested.hogql
    assert "secret" in nested.values.values()


@pytest.mark.parametrize(
    "text",
    ["{", '"text"', "[3]", '{"type": "XOR", "values": []}', '[{"key": "plan", "operator": "resembles", "value": 1}]'],
)
def test_what_is_no_filter_is_a_400_about_properties(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked_filters(text, "person", Catalog())
    assert (caught.value.status, caught.value.attr) == (400, "properties")


def test_a_page_of_persons_names_them_and_links_to_the_next() -> None:
    queries = FakeQueries(
        count=[{"n": 5}],
        persons=[row(1, '{"email": "a@x.test"}'), row(2)],
        distinct_ids=[{"person_id": ID, "distinct_ids": ["b", "a"]}],
    )

    page = people(queries).persons(asked("/persons/?limit=2&offset=2"))

    assert (page["count"], len(page["results"])) == (5, 2)
    assert page["next"] == "http://127.0.0.1:1/persons/?limit=2&offset=4"
    assert page["previous"] == "http://127.0.0.1:1/persons/?limit=2&offset=0"
    first, second = page["results"]
    assert (first["name"], first["distinct_ids"], first["properties"]) == (
        "a@x.test",
        ["a", "b"],
        {"email": "a@x.test"},
    )
    assert (second["name"], second["distinct_ids"], second["is_identified"]) == (second["uuid"], [], True)
    assert queries.asked[1][0].endswith("LIMIT 2 OFFSET 2")


def test_no_persons_are_an_empty_page_without_links() -> None:
    page = people(FakeQueries(count=[{"n": 0}])).persons(asked("/persons/"))

    assert page == {"count": 0, "next": None, "previous": None, "results": []}


def test_what_a_caller_asks_for_is_bound_and_never_pasted() -> None:
    queries = FakeQueries(count=[{"n": 0}])
    properties = quote('[{"key": "plan", "value": "pro\'1"}]')
    people(queries).persons(asked(f"/?distinct_id=d'1&email=e'1&search=50%25'&properties={properties}"))

    for hogql, values in queries.asked:
        assert "'1" not in hogql
        assert {"d'1", "e'1", "%50\\%'%", "pro'1"} <= set(values.values())


def test_one_person_is_found_by_uuid_only() -> None:
    known = people(FakeQueries(persons=[row(1, "[1]")]))

    assert known.person(ID)["properties"] == {}
    for key, found in (("7", known), (ID, people(FakeQueries()))):
        with pytest.raises(ApiError) as caught:
            found.person(key)
        assert caught.value.status == 404


def test_seen_properties_are_a_set_of_names() -> None:
    queries = FakeQueries(seen=[{"name": "a"}, {"name": "b"}])

    assert people(queries).seen_properties(["paid"]) == {"a", "b"}
    assert queries.asked[0][1] == {"names": ["paid"]}


def groups(**answers: list[dict[str, Any]]) -> Groups:
    return Groups(FakeQueries(**answers), cast(Identities, None), "posthog")


def test_groups_are_paged_by_an_opaque_cursor() -> None:
    found = [{"key": str(number), "created_at": "x", "properties": '{"name": "A"}'} for number in range(101)]
    all_groups = groups(groups=found)

    first = all_groups.page(asked("/groups/?group_type_index=0"))
    second = all_groups.page(asked(first["next"].removeprefix("http://127.0.0.1:1")))

    assert (len(first["results"]), first["previous"]) == (100, None)
    assert first["results"][0]["group_properties"] == {"name": "A"}
    assert second["previous"] is not None
    assert groups(groups=found[:3]).page(asked("/?group_type_index=4"))["next"] is None


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("group_type_index=5", 400),
        ("group_type_index=0&cursor=x", 404),
        ("group_type_index=0&cursor=w6Q", 404),
    ],
)
def test_a_wrong_group_type_or_cursor_is_refused(query: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        groups().page(asked(f"/groups/?{query}"))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({"group_key": "acme"}, "group_type_index"),
        ({"group_type_index": 5, "group_key": "acme"}, "group_type_index"),
        ({"group_type_index": True, "group_key": "acme"}, "group_type_index"),
        ({"group_type_index": 0}, "group_key"),
        ({"group_type_index": 0, "group_key": ""}, "group_key"),
        ({"group_type_index": 0, "group_key": "a", "group_properties": [1]}, "group_properties"),
    ],
)
def test_a_group_that_cannot_be_is_refused_by_its_field(body: dict[str, Any], attr: str) -> None:
    with pytest.raises(ApiError) as caught:
        groups().create(body)
    assert (caught.value.status, caught.value.attr) == (400, attr)


def test_whatever_is_related_is_listed_or_its_number_is_refused() -> None:
    persons = [{"id": str(number), "properties": "{}"} for number in range(300)]
    place = "/?group_type_index=0&id=acme"

    assert len(groups(persons=persons).related(asked(place))) == 300
    with pytest.raises(ApiError, match="50,000 or more are related"):
        groups(persons=persons[:1] * 50_000).related(asked(place))


def test_what_is_related_needs_an_id() -> None:
    with pytest.raises(ApiError) as caught:
        groups().related(asked("/?group_type_index=0"))
    assert caught.value.attr == "id"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "\r\n"),
        ([{"a": 1, "b": {"c": [2, "x,y"]}}, {"a": None, "d": True}], 'a,b.c.0,b.c.1,d\r\n1,2,"x,y",\r\n,,,True\r\n'),
    ],
)
def test_nested_fields_become_columns_of_csv(rows: list[dict[str, Any]], text: str) -> None:
    found = in_format(asked("/?format=csv"), rows, {}, "things")

    assert found.body == text
    assert found.headers["Content-Disposition"] == 'attachment; filename="things.csv"'
    assert in_format(asked("/"), rows, {"results": 1}, "things").body == {"results": 1}
    with pytest.raises(ApiError):
        in_format(asked("/?format=pdf"), rows, {}, "things")


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_pattern_holds_for_the_words_in_any_text_and_for_no_other(words: str, text: str) -> None:
    pattern = contains(words)
    parts = re.findall(r"\\(.)|([%_])|([^\\])", pattern, re.DOTALL)
    regex = "".join(
        ".*" if wild == "%" else "." if wild else re.escape(escaped or plain) for escaped, wild, plain in parts
    )

    assert (re.fullmatch(regex, text, re.DOTALL) is not None) == (words in text)
    assert re.fullmatch(regex, f"{text}{words}{text}", re.DOTALL) is not None
