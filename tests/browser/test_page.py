"""The page of the embedded PostHog in a real browser: Chromium, driven by its keyboard where a person would."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from posthog_driver.local import LocalPostHog

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ENDLESS = "SELECT count() FROM numbers(1000000000) AS a CROSS JOIN numbers(1000000000) AS b"


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=5_000) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert path, "These tests need a Chromium: install one, or name it in the variable CHROMIUM"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def door(browser: Browser, local: LocalPostHog) -> Iterator[Page]:
    """The page before the key is given; it may complain of nothing and talk to nobody but its server."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda request: None if request.url.startswith(local.url) else complaints.append(request.url))
    page.goto(local.url)
    yield page
    context.close()
    # A refused key or query is an answer with a 4xx, which the browser's console mentions by itself.
    assert [text for text in complaints if not text.startswith(("Failed to load resource", "data:"))] == []


@pytest.fixture
def page(door: Page, local: LocalPostHog) -> Page:
    door.get_by_label("Personal API key").fill(local.personal_api_key)
    door.get_by_role("button", name="Open").click()
    expect(door.locator("#room")).to_be_visible()
    return door


def run(page: Page, query: str) -> None:
    page.locator("#hogql").fill(query)
    page.keyboard.press("Control+Enter")


def test_the_page_shows_the_project_its_events_over_time_and_its_top_events(page: Page, local: LocalPostHog) -> None:
    expect(page.locator("#project")).to_contain_text("project 1, UTC")
    expect(page.locator("#time-chart svg rect")).to_have_count(31)
    with local.client() as client:
        top = client.query(
            "SELECT event, count() AS events FROM events WHERE timestamp >= today() - toIntervalDay(30) "
            "GROUP BY event ORDER BY events DESC LIMIT 10"
        )
    rows = page.locator("#top tbody tr")
    expect(rows).to_have_count(len(top))
    expect(rows.first).to_contain_text(f"{top[0]['event']}{top[0]['events']}")


def test_more_days_show_more_bars(page: Page) -> None:
    page.get_by_label("Days").select_option("7")
    expect(page.locator("#time-chart svg rect")).to_have_count(8)


def test_the_funnel_shows_the_people_of_each_step_and_follows_another_choice(page: Page) -> None:
    steps = page.locator("#funnel .step")
    expect(steps).to_have_count(4)
    expect(steps.first).to_contain_text("1. $pageview")
    expect(steps.first).to_contain_text("100.0 %")
    page.get_by_label("Step 4").select_option("")
    expect(steps).to_have_count(3)
    counts = [int(re.search(r"([\d,]+) people", text).group(1).replace(",", "")) for text in steps.all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0


def test_everything_can_be_done_from_the_keyboard(door: Page, local: LocalPostHog) -> None:
    expect(door.get_by_label("Personal API key")).to_be_focused()
    door.keyboard.type(local.personal_api_key)
    door.keyboard.press("Enter")
    expect(door.locator("#hogql")).to_be_focused()
    door.keyboard.press("Control+a")
    door.keyboard.type("SELECT 1 + 1 AS two")
    door.keyboard.press("Control+Enter")
    expect(door.locator("#ask-rows tbody td")).to_have_text("2")
    expect(door.get_by_role("status")).to_contain_text("1 row in")
    door.keyboard.press("Tab")
    expect(door.get_by_role("button", name="Run")).to_be_focused()


def test_every_control_has_a_name_for_those_who_do_not_see_it(page: Page) -> None:
    expect(page.locator("#steps select")).to_have_count(4)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, textarea, button, [role=img], [tabindex]')]
            .filter(node => !(node.labels?.length || node.ariaLabel || node.textContent.trim()))
            .map(node => node.outerHTML)"""
    )
    assert nameless == []


def test_an_error_shows_its_position_and_takes_its_fix(page: Page) -> None:
    run(page, "SELECT\n  evnt\nFROM events")
    error = page.locator("#ask-error")
    expect(error).to_contain_text("evnt")
    expect(error.locator("mark")).to_have_text("evnt")
    expect(error.locator(".position")).to_have_text("Line 2, column 3")
    error.get_by_role("button", name="Go there").click()
    assert page.evaluate("() => document.getSelection().toString()") == "evnt"
    error.get_by_role("button", name="Use event").click()
    expect(page.locator("#hogql")).to_have_value("SELECT\n  event\nFROM events")
    page.keyboard.press("Control+Enter")
    expect(error).to_be_empty()


def test_a_position_after_characters_of_two_units_is_still_right(page: Page) -> None:
    run(page, "SELECT '\N{ROCKET}\N{ROCKET}', evnt FROM events")
    expect(page.locator("#ask-error mark")).to_have_text("evnt")


def test_an_answer_that_was_cut_says_so(page: Page) -> None:
    run(page, "SELECT event FROM events")
    expect(page.get_by_role("status")).to_contain_text("100 rows")
    expect(page.get_by_role("status")).to_contain_text("there are more: without a LIMIT the first 100 come")


def test_a_chart_is_drawn_where_the_rows_allow_it_and_only_then(page: Page) -> None:
    run(page, "SELECT toDate(timestamp) AS day, count() AS n FROM events GROUP BY day ORDER BY day")
    expect(page.locator("#ask-chart svg")).to_be_visible()
    page.get_by_label("Draw a chart").uncheck()
    expect(page.locator("#ask-chart svg")).to_have_count(0)
    page.get_by_label("Draw a chart").check()
    run(page, "SELECT event, distinct_id FROM events LIMIT 3")
    expect(page.locator("#ask-rows tbody tr")).to_have_count(3)
    expect(page.locator("#ask-chart svg")).to_have_count(0)


def test_nulls_lists_and_long_numbers_are_told_apart(page: Page) -> None:
    run(page, "SELECT NULL AS a, [1, 2] AS b, '' AS c, 'NULL' AS d")
    cells = page.locator("#ask-rows tbody td")
    expect(cells).to_have_text(["NULL", "[1,2]", "", "NULL"])
    expect(page.locator("#ask-rows td.null")).to_have_count(1)


def test_escape_stops_a_query_that_runs(page: Page) -> None:
    run(page, ENDLESS)
    expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    page.locator("#hogql").press("Escape")
    expect(page.locator("#ask-error")).to_contain_text(re.compile("cancel", re.IGNORECASE))
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()


def test_a_wrong_key_is_refused_with_the_words_of_the_server(door: Page) -> None:
    door.get_by_label("Personal API key").fill("phx_wrong")
    door.get_by_role("button", name="Open").click()
    expect(door.locator("#door-error")).to_contain_text(
        "Personal API key found in request Authorization header is invalid."
    )
    expect(door.locator("#room")).to_be_hidden()


def test_the_key_stays_in_the_tab_and_out_of_the_address(page: Page, local: LocalPostHog) -> None:
    page.reload()
    expect(page.locator("#room")).to_be_visible()
    assert local.personal_api_key not in page.url
    assert page.evaluate("() => [document.cookie, JSON.stringify(localStorage)]") == ["", "{}"]


def test_what_was_captured_is_shown_as_text_and_never_runs(page: Page, local: LocalPostHog) -> None:
    name = "<img src=x onerror=\"document.title='owned'\">"
    with local.client() as client:
        client.capture_batch([{"event": name, "distinct_id": "somebody"}] * 2)
    run(page, "SELECT event FROM events WHERE event LIKE '<img%' LIMIT 1")
    expect(page.locator("#ask-rows tbody td")).to_have_text(name)
    page.reload()
    expect(page.locator("#steps select").first).to_contain_text(name)
    expect(page).to_have_title("Embedded PostHog")


def test_another_project_is_a_choice_away(browser: Browser, local: LocalPostHog) -> None:
    other = local.new_project(name="Second")
    with other.client() as client:
        client.capture_event("only_here", "somebody")
    context = browser.new_context()
    page = context.new_page()
    page.goto(local.url)
    page.get_by_label("Personal API key").fill(local.personal_api_key)
    page.keyboard.press("Enter")
    page.get_by_role("combobox", name="Project").select_option("Second")
    expect(page.locator("#top tbody tr")).to_have_count(1)
    expect(page.locator("#top")).to_contain_text("only_here")
    context.close()
