"""From what people write to what PostHog's REST API takes."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from posthog_driver.exceptions import ResponseFormatError, ValidationError
from posthog_driver.resources import checked_path, cohort_body, insight_body, is_within, person_filters, to_moment

UTC = datetime.timezone.utc
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize("path", ["/api/projects/1/", "/api/projects/@current/insights/?search=a%20b", "/x"])
def test_a_path_of_the_host_is_taken_as_it_is(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize("path", ["", "api/", "//evil.example/", "/a b", "/ü", "/a#b", "/a\\b", "/a\r\nX: y", None, 5])
def test_anything_else_is_refused(path: Any) -> None:
    with pytest.raises(ValidationError, match="Nothing was sent"):
        checked_path(path)


def test_a_cohort_has_filters_only_where_there_are_some() -> None:
    assert cohort_body("a", "b", None) == {"name": "a", "description": "b", "is_static": False}
    assert cohort_body("a", "", {"properties": {}})["filters"] == {"properties": {}}


@pytest.mark.parametrize(
    ("node", "display"),
    [({"kind": "TrendsQuery"}, "InsightVizNode"), ({"kind": "HogQLQuery", "query": "x"}, "DataVisualizationNode")],
)
def test_a_query_node_is_saved_inside_what_displays_it(node: dict[str, Any], display: str) -> None:
    wrapped = {"kind": display, "source": node}
    assert insight_body("a", "TRENDS", node) == {"name": "a", "query": wrapped}
    assert insight_body("a", "TRENDS", wrapped) == {"name": "a", "query": wrapped}


def test_old_style_filters_get_the_type_and_may_overrule_it() -> None:
    assert insight_body("a", "FUNNELS", {"events": []})["filters"] == {"insight": "FUNNELS", "events": []}
    assert insight_body("a", "FUNNELS", {"insight": "PATHS"})["filters"] == {"insight": "PATHS"}


@pytest.mark.parametrize("filters", [None, "x", [1]])
def test_filters_are_a_dict(filters: Any) -> None:
    with pytest.raises(ValidationError, match=r"filters is a dict.*Nothing was sent"):
        insight_body("a", "TRENDS", filters)


def test_persons_are_chosen_by_exact_values_or_by_filters() -> None:
    exact = {"key": "plan", "value": "pro", "operator": "exact", "type": "person"}
    unset = {"key": "email", "value": "is_not_set", "operator": "is_not_set", "type": "person"}
    assert json.loads(person_filters({"plan": "pro", "email": None})) == [exact, unset]
    assert json.loads(person_filters([exact])) == [exact]


@pytest.mark.parametrize("properties", ["plan", 5, ["plan"], {"x": float("nan")}, {"x": object()}])
def test_other_property_filters_are_refused(properties: Any) -> None:
    with pytest.raises(ValidationError, match="Nothing was sent"):
        person_filters(properties)


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        datetime.datetime(2026, 1, 2, 12),
        "2026-01-02T12:00:00Z",
        "2026-01-02 12:00:00",
        NOON.astimezone(datetime.timezone(datetime.timedelta(hours=5))),
    ],
)
def test_a_moment_without_a_zone_is_utc(value: Any) -> None:
    assert to_moment(value, "after") == NOON


def test_a_day_is_its_first_moment_and_none_is_none() -> None:
    assert to_moment(datetime.date(2026, 1, 2), "after") == datetime.datetime(2026, 1, 2, tzinfo=UTC)
    assert to_moment(None, "after") is None


@pytest.mark.parametrize("value", ["yesterday", 5, ""])
def test_what_is_no_moment_is_refused_by_the_argument_s_name(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"^after is .*Nothing was sent"):
        to_moment(value, "after")


@pytest.mark.parametrize(
    ("marker", "start", "end", "within"),
    [
        (None, None, None, True),
        (None, NOON, None, False),
        ("2026-01-02T12:00:00Z", NOON, NOON, True),
        ("2026-01-02T11:59:59Z", NOON, None, False),
        ("2026-01-02T12:00:01Z", None, NOON, False),
    ],
)
def test_both_bounds_are_included(marker: Any, start: Any, end: Any, within: bool) -> None:
    assert is_within(marker, start, end) is within


def test_a_date_of_the_server_that_is_none_is_its_mistake() -> None:
    with pytest.raises(ResponseFormatError, match=r"date_marker that is no time: 'soon'") as caught:
        is_within("soon", NOON, None)
    assert "Nothing was sent" not in str(caught.value)
