"""Persons and groups of the embedded PostHog: which HogQL is asked, and what is made of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from posthog_driver.local.errors import ApiError
from posthog_driver.local.people import People, condition
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


def person_filter(operator: str | None, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"key": "plan", "type": "person", "operator": operator, "value": value, **more}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], "1 = 1"),
        (person_filter("exact", "pro"), "toString(properties.plan) IN ('pro')"),
        (person_filter(None, ["pro", True, 5, 5.0, 1.5]),
         "toString(properties.plan) IN ('pro', 'true', '5', '5', '1.5')"),
        (person_filter("exact", False), "toString(properties.plan) IN ('false')"),
        (person_filter("is_not", "o'\\x"),
         "properties.plan IS NULL OR NOT (toString(properties.plan) IN ('o\\'\\\\x'))"),
        (person_filter("is_set"), "properties.plan IS NOT NULL"),
        (person_filter("is_not_set"), "properties.plan IS NULL"),
        (person_filter("icontains", "5%_\\"), "toString(properties.plan) ILIKE '%5\\\\%\\\\_\\\\\\\\%'"),
        (person_filter("not_icontains", "x"), "properties.plan IS NULL OR NOT (toString(properties.plan) ILIKE '%x%')"),
        (person_filter("regex", "^a"), "match(toString(properties.plan), '^a')"),
        (person_filter("not_regex", "^a"), "properties.plan IS NULL OR NOT (match(toString(properties.plan), '^a'))"),
        (person_filter("gte", "5"), "toFloat(toString(properties.plan)) >= 5.0"),
        (person_filter("is_date_before", "2026-01-01"),
         "toDateTime(toString(properties.plan)) < toDateTime('2026-01-01')"),
        (person_filter("exact", "a\0b", key="odd `name"), "toString(properties.`odd ``name`) IN ('ab')"),
        (person_filter("exact", "x", negation=True), "NOT (toString(properties.plan) IN ('x'))"),
        ({"type": "cohort", "key": "id", "value": 5}, "id IN COHORT 5"),
        ({"type": "hogql", "key": "1 = 2"}, "1 = 2"),
        ({"type": "OR", "values": [[person_filter("is_set")], {"type": "hogql", "key": "a"}]},
         "((properties.plan IS NOT NULL)) OR (a)"),
    ],
)  # fmt: skip
def test_a_property_filter_becomes_hogql(filters: Any, expected: str) -> None:
    assert condition(filters) == expected


@pytest.mark.parametrize(
    "filters",
    [
        "text",
        None,
        [3],
        {"type": "XOR", "values": []},
        {"type": "AND", "values": 3},
        person_filter("semver_gt", "1"),
        person_filter("gt", "many"),
        person_filter("gt", None),
        person_filter("exact", "x", key=""),
        person_filter("exact", "x", key=3),
        person_filter("exact", "x", type="behavioral"),
        {"type": "cohort", "key": "id", "value": "5 OR 1 = 1"},
    ],
)
def test_what_is_no_filter_or_is_not_served_is_a_400(filters: Any) -> None:
    with pytest.raises(ApiError) as caught:
        condition(filters)
    assert caught.value.status == 400


def test_a_page_of_persons_names_them_and_links_to_the_next() -> None:
    queries = FakeQueries(
        count=[{"n": 5}],
        persons=[row(1, '{"email": "a@x.test"}'), row(2)],
        distinct_ids=[{"person_id": ID, "distinct_ids": ["b", "a"]}],
    )

    page = People(queries).persons(asked("/persons/?limit=2&offset=2"))

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
    page = People(FakeQueries(count=[{"n": 0}])).persons(asked("/persons/"))

    assert page == {"count": 0, "next": None, "previous": None, "results": []}


def test_what_a_caller_asks_for_is_bound_and_never_pasted() -> None:
    queries = FakeQueries(count=[{"n": 0}])
    properties = quote('[{"key": "plan", "value": "pro"}]')
    People(queries).persons(asked(f"/?distinct_id=d'1&email=e'1&search=50%25'&properties={properties}"))

    for hogql, values in queries.asked:
        assert "'1" not in hogql
        assert "(toString(properties.plan) IN ('pro'))" in hogql
        assert values == {"distinct_id": "d'1", "email": "e'1", "search": "%50\\%'%"}


@pytest.mark.parametrize("properties", ["{", '"x"'])
def test_properties_that_are_no_filters_are_a_400(properties: str) -> None:
    with pytest.raises(ApiError) as caught:
        People(FakeQueries()).persons(asked(f"/?properties={quote(properties)}"))
    assert caught.value.status == 400


def test_one_person_is_found_by_uuid_only() -> None:
    people = People(FakeQueries(persons=[row(1, "[1]")]))

    assert people.person(ID)["properties"] == {}
    for key, found in (("7", people), (ID, People(FakeQueries()))):
        with pytest.raises(ApiError) as caught:
            found.person(key)
        assert caught.value.status == 404


def test_the_properties_of_somebody_unknown_are_empty() -> None:
    assert People(FakeQueries()).properties_of("u") == {}
    assert People(FakeQueries(properties=[{"properties": '{"a": 1}'}])).properties_of("u") == {"a": 1}
    assert People(FakeQueries(properties=[{"properties": ""}])).properties_of("u") == {}


def test_seen_properties_are_a_set_of_names() -> None:
    queries = FakeQueries(seen=[{"name": "a"}, {"name": "b"}])

    assert People(queries).seen_properties(["paid"]) == {"a", "b"}
    assert queries.asked[0][1] == {"names": ["paid"]}


def test_groups_are_paged_by_an_opaque_cursor() -> None:
    groups = [{"key": str(number), "created_at": "x", "properties": '{"name": "A"}'} for number in range(101)]
    people = People(FakeQueries(groups=groups))

    first = people.groups(asked("/groups/?group_type_index=0"))
    second = people.groups(asked(first["next"].removeprefix("http://127.0.0.1:1")))

    assert (len(first["results"]), first["previous"]) == (100, None)
    assert first["results"][0]["group_properties"] == {"name": "A"}
    assert second["previous"] is not None
    assert People(FakeQueries(groups=groups[:3])).groups(asked("/?group_type_index=4"))["next"] is None


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("group_type_index=5", 400), ("group_type_index=0&cursor=x", 404)]
)
def test_a_wrong_group_type_or_cursor_is_refused(query: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        People(FakeQueries()).groups(asked(f"/groups/?{query}"))
    assert caught.value.status == status


def test_one_group_is_found_by_type_and_key() -> None:
    group = {"key": "acme", "created_at": "x", "properties": "{}"}

    assert (
        People(FakeQueries(groups=[group])).group(asked("/?group_type_index=1&group_key=acme"))["group_type_index"] == 1
    )
    with pytest.raises(ApiError) as caught:
        People(FakeQueries()).group(asked("/?group_type_index=1&group_key=acme"))
    assert caught.value.status == 404
