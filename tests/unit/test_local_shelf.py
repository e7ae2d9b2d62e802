"""Kept answers are weighed."""

from __future__ import annotations

from posthog_driver.local.shelf import Shelf

ANSWER = b'{"n": 123}'  # 10 bytes


def test_the_oldest_answers_go_when_all_of_them_are_too_heavy() -> None:
    shelf = Shelf(20)
    for name in "abc":
        shelf.put(name, ANSWER)

    assert shelf.get("a") is None
    assert shelf.get("b") == shelf.get("c") == {"n": 123}


def test_an_answer_takes_the_place_of_the_one_of_its_name() -> None:
    shelf = Shelf(20)
    for _ in range(5):
        shelf.put("a", ANSWER)
    shelf.put("b", ANSWER)

    assert shelf.get("a") == {"n": 123}


def test_what_was_dropped_weighs_nothing_and_may_be_dropped_again() -> None:
    shelf = Shelf(20)
    shelf.put("a", ANSWER)
    shelf.drop("a")
    shelf.drop("a")
    shelf.put("b", ANSWER)
    shelf.put("c", ANSWER)

    assert shelf.get("a") is None
    assert shelf.get("b") == {"n": 123}


def test_the_newest_answer_stays_however_heavy_it_is() -> None:
    shelf = Shelf(1)
    shelf.put("a", ANSWER)
    shelf.put("b", ANSWER)

    assert shelf.get("a") is None
    assert shelf.get("b") == {"n": 123}
