"""Property filters, actions and selectors on real rows, against what they mean in plain Python."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from posthog_driver import PostHogClient
from posthog_driver.exceptions import QueryError
from posthog_driver.local import LocalPostHog, LocalProject

NOW = datetime.now(timezone.utc).replace(microsecond=0)

ROWS: list[dict[str, Any]] = [
    {"text": "Alpha", "num": 5, "flag": True, "when": "2025-03-01T10:00:00Z", "version": "1.2.3"},
    {"text": "beta", "num": 10, "flag": False, "when": "2025-03-02", "version": "1.10.0"},
    {"text": "", "num": 0, "version": "2.0.0-beta"},
    {"text": None, "num": None, "flag": None, "when": None, "version": None},
    {"num": -2.5, "text": "100%_a", "when": "2025-03-02T23:59:59Z", "version": "v1.2.4"},
    {"text": "5", "num": 1e3, "version": "1.2"},
    {"text": "it's [a] \\b", "version": "0.3.1"},
    {"text": (NOW - timedelta(days=2)).isoformat(), "when": (NOW - timedelta(days=2)).isoformat()},
    {},
]


@pytest.fixture(scope="module")
def project() -> Iterator[LocalProject]:
    with LocalPostHog(events=0) as local:
        made = local.new_project("filters")
        with made.client() as client:
            client.capture_batch(
                {
                    "event": "row",
                    "distinct_id": f"user-{number}",
                    "timestamp": "2025-03-05T00:00:00Z",
                    "properties": {**row, "number": number, "$set": row, "$groups": {"company": f"c{number % 3}"}},
                }
                for number, row in enumerate(ROWS)
            )
            client.capture_batch(
                [
                    {
                        "event": "$groupidentify",
                        "distinct_id": "x",
                        "timestamp": "2025-03-05T00:00:00Z",
                        "properties": {"$group_type": "company", "$group_key": f"c{n}", "$group_set": {"size": n}},
                    }
                    for n in range(3)
                ]
            )
        yield made


@pytest.fixture(scope="module")
def client(project: LocalProject) -> Iterator[PostHogClient]:
    with project.client() as made:
        yield made


def found(client: PostHogClient, *filters: Any, **more: Any) -> list[int]:
    """Numbers of the rows that pass."""
    asked = {
        "kind": "HogQLQuery",
        "query": "SELECT properties.number FROM events WHERE event = 'row' AND {filters} LIMIT 100",
        "filters": {"properties": list(filters), **more},
    }
    answer = client.request(f"/api/projects/{client.project_id}/query/", "POST", json={"query": asked})
    return sorted(int(float(row[0])) for row in answer["results"])


def rows(passes: Callable[[dict[str, Any]], Any]) -> list[int]:
    return [number for number, row in enumerate(ROWS) if passes(row)]


def text(row: dict[str, Any]) -> str | None:
    return row.get("text")


def num(row: dict[str, Any]) -> float | None:
    return row.get("num")


def version(row: dict[str, Any]) -> tuple[int, ...] | None:
    """A version of three numbers, with whatever may stand around them."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)([-+]\S*)?", row.get("version") or "")
    return tuple(map(int, match.groups()[:3])) if match else None


def holds(row: dict[str, Any], low: tuple[int, ...], high: tuple[int, ...]) -> bool:
    own = version(row)
    return own is not None and low <= own < high


CASES: list[tuple[str, str, Any, Callable[[dict[str, Any]], Any]]] = [
    ("text", "exact", "Alpha", lambda row: text(row) == "Alpha"),
    ("text", "exact", ["Alpha", "beta"], lambda row: text(row) in ("Alpha", "beta")),
    ("text", "exact", [], lambda row: True),
    ("text", "icontains_multi", ["alph", "eta"], lambda row: text(row) in ("Alpha", "beta")),
    ("text", "not_icontains_multi", ["alph", "eta"], lambda row: text(row) not in ("Alpha", "beta")),
    ("num", "gt", [100, 5], lambda row: num(row) is not None and num(row) > 5),
    ("text", "is_not", ["Alpha", "beta"], lambda row: text(row) not in ("Alpha", "beta")),
    ("text", "in", ["5"], lambda row: text(row) == "5"),
    ("text", "not_in", ["5"], lambda row: text(row) != "5"),
    ("text", "icontains", "ALPH", lambda row: "alph" in (text(row) or "").lower()),
    ("text", "icontains", "0%_", lambda row: "0%_" in (text(row) or "")),
    ("text", "icontains", "\\", lambda row: "\\" in (text(row) or "")),
    ("text", "not_icontains", ["a", "b"], lambda row: not any(c in (text(row) or "").lower() for c in "ab")),
    ("text", "regex", "^[aA]l", lambda row: re.search("^[aA]l", text(row) or "")),
    ("text", "not_regex", "a", lambda row: not re.search("a", text(row) or "")),
    ("text", "is_set", None, lambda row: text(row) is not None),
    ("text", "is_not_set", None, lambda row: text(row) is None),
    ("num", "exact", 5, lambda row: num(row) == 5),
    ("num", "exact", ["10", "1000"], lambda row: num(row) in (10, 1000)),
    ("num", "exact", ["many"], lambda row: False),
    ("num", "is_not", 5, lambda row: num(row) != 5),
    ("num", "gt", 5, lambda row: num(row) is not None and num(row) > 5),
    ("num", "gte", "5", lambda row: num(row) is not None and num(row) >= 5),
    ("num", "lt", 0, lambda row: num(row) is not None and num(row) < 0),
    ("num", "lte", 0, lambda row: num(row) is not None and num(row) <= 0),
    ("num", "min", 10, lambda row: num(row) is not None and num(row) >= 10),
    ("num", "max", 0, lambda row: num(row) is not None and num(row) <= 0),
    ("num", "between", [0, 10], lambda row: num(row) is not None and 0 <= num(row) <= 10),
    ("num", "not_between", [0, 10], lambda row: num(row) is not None and not 0 <= num(row) <= 10),
    ("flag", "exact", ["true"], lambda row: row.get("flag") is True),
    ("flag", "exact", False, lambda row: row.get("flag") is False),
    ("flag", "is_not", ["true"], lambda row: row.get("flag") is not True),
    ("flag", "exact", ["perhaps"], lambda row: False),
    ("when", "is_date_before", "2025-03-02", lambda row: (row.get("when") or "9") < "2025-03-02"),
    ("when", "is_date_after", "2025-03-01", lambda row: (row.get("when") or "0") > "2025-03-01"),
    ("when", "is_date_exact", "2025-03-02", lambda row: row.get("when") == "2025-03-02"),
    ("when", "is_date_after", "2025-03-01T10:00:00Z", lambda row: (row.get("when") or "0") >= "2025-03-02"),
    ("when", "is_date_after", "-5d", lambda row: (row.get("when") or "0") > "2025-12"),
    ("text", "is_date_after", "-5d", lambda row: (text(row) or "")[:2] == "20"),
    ("version", "semver_eq", "1.2.3", lambda row: version(row) == (1, 2, 3)),
    ("version", "semver_neq", "1.2.3", lambda row: version(row) != (1, 2, 3)),
    ("version", "semver_gt", "1.2.3", lambda row: holds(row, (1, 2, 4), (9,))),
    ("version", "semver_gte", "1.2.4", lambda row: holds(row, (1, 2, 4), (9,))),
    ("version", "semver_lt", "1.2.3", lambda row: holds(row, (0,), (1, 2, 3))),
    ("version", "semver_lte", "1.2.3", lambda row: holds(row, (0,), (1, 2, 4))),
    ("version", "semver_tilde", "1.2", lambda row: holds(row, (1, 2), (1, 3))),
    ("version", "semver_tilde", "1.2.3", lambda row: holds(row, (1, 2, 3), (1, 3))),
    ("version", "semver_caret", "1.2.3", lambda row: holds(row, (1, 2, 3), (2,))),
    ("version", "semver_caret", "0.3.1", lambda row: holds(row, (0, 3, 1), (0, 4))),
    ("version", "semver_wildcard", "1.*", lambda row: holds(row, (1,), (2,))),
    ("version", "semver_wildcard", "1.2.*", lambda row: holds(row, (1, 2), (1, 3))),
]
NAMES = [f"{key}-{operator}-{value}" for key, operator, value, _ in CASES]


@pytest.mark.parametrize(("key", "operator", "value", "passes"), CASES, ids=NAMES)
@pytest.mark.parametrize("owner", ["event", "person"])
def test_each_operator_passes_what_it_says(
    client: PostHogClient, owner: str, key: str, operator: str, value: Any, passes: Callable[[dict[str, Any]], Any]
) -> None:
    assert found(client, {"key": key, "operator": operator, "value": value, "type": owner}) == rows(passes)


@pytest.mark.parametrize(
    ("filter", "passes"),
    [
        ({"type": "hogql", "key": "properties.num > 5 -- five"}, lambda row: (num(row) or 0) > 5),
        (
            {"type": "event_metadata", "key": "distinct_id", "operator": "exact", "value": ["user-3"]},
            lambda row: row is ROWS[3],
        ),
        (
            {"type": "group", "group_type_index": 0, "key": "size", "operator": "gte", "value": 2},
            lambda row: any(row is one for one in ROWS[2::3]),
        ),
        ({"type": "feature", "key": "$feature/x", "operator": "is_set"}, lambda row: False),
    ],
)
def test_each_type_of_filter_finds_its_rows(
    client: PostHogClient, filter: dict[str, Any], passes: Callable[[dict[str, Any]], Any]
) -> None:
    assert found(client, filter) == rows(passes)


def test_all_filters_of_a_list_must_hold(client: PostHogClient) -> None:
    beta, five = ({"key": "text", "value": value, "type": "event"} for value in ("beta", "5"))
    large = {"key": "num", "operator": "gt", "value": 100, "type": "event"}
    assert found(client, beta, five) == []
    assert found(client, five, large) == [5]
    assert found(client) == rows(lambda row: True)


def test_cohorts_and_test_accounts_filter_by_person(client: PostHogClient, project: LocalProject) -> None:
    group = {"properties": {"type": "AND", "values": [{"key": "num", "operator": "gt", "value": 5, "type": "person"}]}}
    cohort = client.create_cohort("large", filters=group)
    inside = {"type": "cohort", "key": "id", "value": cohort["id"]}
    large = rows(lambda row: (num(row) or 0) > 5)
    assert found(client, inside) == large
    assert found(client, {**inside, "operator": "not_in"}) == [n for n in range(len(ROWS)) if n not in large]
    internal = [{"key": "text", "operator": "is_not", "value": "beta", "type": "event"}]
    client.request(f"/api/projects/{project.project_id}/", "PATCH", json={"test_account_filters": internal})
    assert found(client, filterTestAccounts=True) == rows(lambda row: text(row) != "beta")
    assert found(client, filterTestAccounts=False) == rows(lambda row: True)


@pytest.mark.parametrize("key", ["1) OR (1", "1 /*", "(1", "1 --", "timestamp) FROM system.tables -- "])
def test_an_expression_never_reaches_beyond_its_brackets(client: PostHogClient, key: str) -> None:
    nobody = {"key": "text", "value": ["nobody has this"], "operator": "exact", "type": "event"}
    with contextlib.suppress(QueryError):
        assert found(client, nobody, {"type": "hogql", "key": key}) == []


def test_a_filter_that_cannot_be_answered_is_refused_with_its_reason(client: PostHogClient) -> None:
    with pytest.raises(QueryError, match="Invalid date: soon"):
        found(client, {"key": "when", "operator": "is_date_before", "value": "soon", "type": "event"})
    with pytest.raises(QueryError, match="distinct_id is not available"):
        found(client, {"key": "distinct_id", "operator": "exact", "value": "user-3", "type": "person"})
    with pytest.raises(QueryError, match="999"):
        found(client, {"type": "cohort", "key": "id", "value": 999})


# --------------------------------------------------------------------------------------------------------- elements

CHAINS = [
    'a.big.nav:attr__href="/buy"attr_id="go"href="/buy"nth-child="2"nth-of-type="1"text="Buy";div.menu:attr_id="top";body',
    'button.big:attr__data-attr="save it"nth-child="1"text="Save";form:attr_id="f";body',
    'a:href="https://x.test/about"text="About";nav;body',
    "",
]


@pytest.fixture(scope="module")
def clicks(project: LocalProject) -> LocalProject:
    with project.client() as client:
        client.capture_batch(
            {
                "event": "$autocapture",
                "distinct_id": "clicker",
                "timestamp": "2025-03-05T00:00:00Z",
                "properties": {
                    "$elements_chain": chain,
                    "number": number,
                    "$current_url": f"https://x.test/p{number}?q=1",
                },
            }
            for number, chain in enumerate(CHAINS)
        )
    return project


def clicked(client: PostHogClient, condition: str, filters: list[Any] | None = None) -> list[int]:
    query = f"SELECT properties.number FROM events WHERE event = '$autocapture' AND {condition} LIMIT 100"
    asked = {"kind": "HogQLQuery", "query": query, "filters": {"properties": filters or []}}
    answer = client.request(f"/api/projects/{client.project_id}/query/", "POST", json={"query": asked})
    return sorted(int(float(row[0])) for row in answer["results"])


@pytest.mark.parametrize(
    ("key", "value", "operator", "expected"),
    [
        ("tag_name", "a", "exact", [0, 2]),
        ("tag_name", ["button", "nav"], "exact", [1, 2]),
        ("text", "Save", "exact", [1]),
        ("text", "buy", "icontains", [0]),
        ("text", "^A", "regex", [2]),
        ("href", "/buy", "exact", [0]),
        ("href", "x.test", "icontains", [2]),
        ("href", "x.test", "not_icontains", [0, 1, 3]),
        ("selector", "a", "exact", [0, 2]),
        ("selector", ".big", "exact", [0, 1]),
        ("selector", "a.nav.big", "exact", [0]),
        ("selector", "#go", "exact", [0]),
        ("selector", "div.menu > a", "exact", [0]),
        ("selector", "body a", "exact", [0, 2]),
        ("selector", "body > a", "exact", []),
        ("selector", '[data-attr="save it"]', "exact", [1]),
        ("selector", "a:nth-child(2)", "exact", [0]),
        ("selector", "* > button", "exact", [1]),
    ],
)
def test_filters_on_elements_find_the_clicks(
    clicks: LocalProject, client: PostHogClient, key: str, value: Any, operator: str, expected: list[int]
) -> None:
    filter = {"type": "element", "key": key, "value": value, "operator": operator}
    assert clicked(client, "{filters}", [filter]) == expected


@pytest.mark.parametrize("selector", ["", ">", "a >", "a:hover", "a[", "a + b"])
def test_a_selector_that_is_not_understood_is_refused(
    clicks: LocalProject, client: PostHogClient, selector: str
) -> None:
    with pytest.raises(QueryError, match="selector"):
        clicked(client, "{filters}", [{"type": "element", "key": "selector", "value": selector, "operator": "exact"}])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{"event": "$autocapture", "text": "Save"}], [1]),
        ([{"event": "$autocapture", "text": "sav", "text_matching": "contains"}], [1]),
        ([{"event": "$autocapture", "tag_name": "a"}], [0, 2]),
        ([{"event": "$autocapture", "href": "/buy", "href_matching": "exact"}], [0]),
        ([{"event": "$autocapture", "selector": ".menu > a"}], [0]),
        ([{"event": "$autocapture", "url": "p1"}], [1]),
        ([{"event": "$autocapture", "url": "https://x.test/p2?q=1", "url_matching": "exact"}], [2]),
        ([{"event": "$autocapture", "url": "p[03]", "url_matching": "regex"}], [0, 3]),
        ([{"event": "$autocapture", "text": "Save"}, {"event": "$autocapture", "text": "About"}], [1, 2]),
        ([{"event": "$autocapture", "properties": [{"key": "number", "value": 3, "operator": "gte"}]}], [3]),
        ([{"event": "$pageview"}], []),
    ],
)
def test_an_action_matches_what_one_of_its_steps_says(
    clicks: LocalProject, client: PostHogClient, steps: list[dict[str, Any]], expected: list[int]
) -> None:
    path = f"/api/projects/{client.project_id}/actions/"
    action = client.request(path, "POST", json={"name": f"action {steps}"[:390], "steps": steps})
    assert clicked(client, f"matchesAction({action['id']})") == expected
    series = [{"kind": "ActionsNode", "id": action["id"]}]
    body = {
        "query": {
            "kind": "TrendsQuery",
            "series": series,
            "dateRange": {"date_from": "2025-03-05", "date_to": "2025-03-05"},
        }
    }
    (result,) = client.request(f"/api/projects/{client.project_id}/query/", "POST", json=body)["results"]
    assert result["data"] == [len(expected)]


def test_an_action_without_steps_matches_every_event(clicks: LocalProject, client: PostHogClient) -> None:
    action = client.request(f"/api/projects/{client.project_id}/actions/", "POST", json={"name": "any", "steps": []})
    assert clicked(client, f"matchesAction({action['id']})") == list(range(len(CHAINS)))
