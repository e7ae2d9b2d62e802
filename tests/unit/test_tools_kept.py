"""What stays within the reach of a cursor, and for how long."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from posthog_driver.testing import FakeClock
from posthog_driver.tools.budget import Budget
from posthog_driver.tools.kept import Cursor, Shelf, keep, read_cursor
from posthog_driver.tools.layout import Block


@dataclasses.dataclass
class Kept:
    name: str = ""
    finished: float | None = None


@pytest.fixture
def shelf(fake_clock: FakeClock) -> Shelf[Kept]:
    return Shelf(Budget(kept_results=3), fake_clock.monotonic)


# Cursors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "cursor"), [("q7", Cursor("q7", 0)), (" q7.100\n", Cursor("q7", 100))])
def test_a_cursor_is_a_handle_and_a_number_of_rows(text: str, cursor: Cursor) -> None:
    assert read_cursor(text) == cursor
    assert str(cursor) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "q", "7", "q0", "q07", "q7.", "q7.-1", "q7.1.2", "Q7", "q7 .1", "q" + "9" * 5_000]
)
def test_anything_else_is_none(text: str) -> None:
    assert read_cursor(text) is None


# Rows -----------------------------------------------------------------------------------------------------------------


def test_what_fits_is_kept_as_it_is() -> None:
    block = Block(("a",), [[1]] * 10)

    assert keep(block, Budget()) is block


def test_rows_beyond_the_limit_are_left_out_and_that_is_said() -> None:
    kept = keep(Block(("a",), [[number] for number in range(10)]), Budget(kept_rows=4))

    assert kept.rows == [[0], [1], [2], [3]]
    assert kept.source == "cut"
    assert kept.notes == ("10 rows came, too many to keep: only the first 4 can be shown",)


@pytest.mark.parametrize("cell", ["x" * 1_000, ["x" * 500] * 2, {"a": "x" * 500, "b": ["x" * 500]}, b"x" * 1_000])
def test_rows_beyond_the_bytes_are_left_out_wherever_the_text_is(cell: Any) -> None:
    kept = keep(Block(("a",), [[cell]] * 100), Budget(kept_bytes=10_000))

    assert 5 <= len(kept.rows) <= 9


def test_one_row_is_kept_however_large_it_is() -> None:
    assert len(keep(Block(("a",), [["x" * 1_000]] * 2), Budget(kept_bytes=10)).rows) == 1


# The shelf ------------------------------------------------------------------------------------------------------------


def test_handles_are_never_used_twice(shelf: Shelf[Kept]) -> None:
    assert [shelf.new_handle() for _ in range(3)] == ["q1", "q2", "q3"]


def test_a_result_is_found_by_handle_until_it_is_too_old(shelf: Shelf[Kept], fake_clock: FakeClock) -> None:
    kept = Kept(finished=fake_clock.monotonic())
    shelf.put("q1", kept)

    fake_clock.advance(900)
    assert shelf.get("q1") is kept

    fake_clock.advance(0.1)
    assert shelf.get("q1") is None
    assert shelf.get("q2") is None


def test_what_is_running_does_not_age(shelf: Shelf[Kept], fake_clock: FakeClock) -> None:
    kept = Kept()
    shelf.put("q1", kept, "asked")
    fake_clock.advance(10_000)

    assert shelf.get("q1") is kept
    assert shelf.find("asked") == (kept, 0.0)


def test_the_least_recently_used_goes_first(shelf: Shelf[Kept], fake_clock: FakeClock) -> None:
    for name in ("q1", "q2", "q3"):
        shelf.put(name, Kept(name, fake_clock.monotonic()))
    assert shelf.get("q1")

    shelf.put("q4", Kept("q4", fake_clock.monotonic()))

    assert shelf.get("q2") is None
    assert all(shelf.get(name) for name in ("q1", "q3", "q4"))


def test_what_is_running_never_goes(shelf: Shelf[Kept], fake_clock: FakeClock) -> None:
    for name in ("q1", "q2", "q3"):
        shelf.put(name, Kept(name))
    shelf.put("q4", Kept("q4", fake_clock.monotonic()))
    shelf.put("q5", Kept("q5"))

    assert shelf.get("q4") is None
    assert all(shelf.get(name) for name in ("q1", "q2", "q3", "q5"))


def test_the_same_question_finds_a_recent_result_with_its_age(shelf: Shelf[Kept], fake_clock: FakeClock) -> None:
    kept = Kept(finished=fake_clock.monotonic())
    shelf.put("q1", kept, "asked")

    fake_clock.advance(60)
    assert shelf.find("asked") == (kept, 60.0)
    assert shelf.find("asked otherwise") is None

    fake_clock.advance(0.1)
    assert shelf.find("asked") is None


def test_a_later_answer_to_the_same_question_takes_the_place(shelf: Shelf[Kept], fake_clock: FakeClock) -> None:
    first, second = Kept("1", fake_clock.monotonic()), Kept("2", fake_clock.monotonic())
    shelf.put("q1", first, "asked")
    shelf.put("q2", second, "asked")
    shelf.drop("q1")

    assert shelf.find("asked") == (second, 0.0)


def test_what_is_dropped_is_not_found_any_more(shelf: Shelf[Kept]) -> None:
    shelf.put("q1", Kept(), "asked")
    shelf.drop("q1")
    shelf.drop("q1")

    assert shelf.get("q1") is None
    assert shelf.find("asked") is None


def test_a_result_without_a_question_is_found_by_handle_alone(shelf: Shelf[Kept]) -> None:
    shelf.put("q1", Kept())

    assert shelf.find("") is None
    assert shelf.get("q1")


def test_clearing_forgets_everything(shelf: Shelf[Kept]) -> None:
    shelf.put("q1", Kept(), "asked")
    shelf.clear()

    assert shelf.get("q1") is None
    assert shelf.find("asked") is None
