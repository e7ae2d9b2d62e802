"""The evaluation is right about itself: questions, scoring, and who answers them."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from evals import __main__ as evals
from evals.mistakes import MISTAKES, Mistake
from evals.model import MOST_TURNS, connect, play_model
from evals.players import MOST_TURNS as MISTAKE_TURNS
from evals.players import Played, follow, play_mistake, play_reference
from evals.question import Question
from evals.questions import QUESTIONS
from evals.scoring import Row, matches
from evals.world import World
from posthog_driver import ConfigurationError, MissingDependencyError, PostHogClient
from posthog_driver.local import LocalPostHog
from posthog_driver.tools import Toolkit
from tests.clients.fake_model import FakeModel, call, say

SOME = (
    "events-by-name",
    "experiment",
    "day-to-day",
    "companies-by-plan",
    "wait-for-upload",
    "trend-revenue",
    "funnel-first-visit",
    "retention-uploads",
)
SOME_MISTAKES = ("toFloat64", "LAG", "OFFSET", "question-mark", "no-time-bound", "invented-event", "three-at-once")


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


@pytest.fixture(scope="module")
def world(local_posthog: LocalPostHog, client: PostHogClient) -> World:
    return World(client, local_posthog.truth)


@pytest.fixture
def toolkit(client: PostHogClient) -> Iterator[Toolkit]:
    with Toolkit(client) as toolkit:
        yield toolkit


def question(name: str) -> Question:
    return next(question for question in QUESTIONS if question.name == name)


def mistake(name: str) -> Mistake:
    return next(mistake for mistake in MISTAKES if mistake.name == name)


def test_there_are_at_least_sixty_questions_and_all_names_differ() -> None:
    names = [*(task.name for task in QUESTIONS), *(task.name for task in MISTAKES)]

    assert len(QUESTIONS) >= 60
    assert len(set(names)) == len(names)
    assert {question.tool for question in QUESTIONS} == {
        "posthog_query",
        "posthog_trend",
        "posthog_funnel",
        "posthog_retention",
    }


@pytest.mark.parametrize("name", SOME)
def test_a_reference_answers_its_question(name: str, world: World, toolkit: Toolkit) -> None:
    played = play_reference(question(name), world, toolkit)

    assert played.ok, played.said
    assert (played.turns, played.said) == (1, "")
    assert played.tokens > 10


def test_every_question_expects_rows_that_tell_right_from_wrong(world: World) -> None:
    for asked in QUESTIONS:
        expected = asked.expected(world)
        assert expected, asked.name
        assert len({len(row) for row in expected}) == 1, asked.name
        assert any(cell not in (None, 0, "") for row in expected for cell in row), asked.name
        assert "{" not in asked.asked(world), asked.name


@pytest.mark.parametrize("name", SOME_MISTAKES)
def test_the_script_is_brought_to_the_right_rows_by_what_it_is_told(name: str, toolkit: Toolkit) -> None:
    played = play_mistake(mistake(name), toolkit)

    assert played.ok, played.said
    assert played.turns == MISTAKE_TURNS


def test_the_script_fails_where_it_is_told_nothing(toolkit: Toolkit) -> None:
    lost = Mistake("lost", "SELECT nothing FROM events LIMIT 1", "SELECT 1")
    wrong = Mistake("wrong", "SELECT 2", "SELECT 1")

    for each in (lost, wrong):
        played = play_mistake(each, toolkit)
        assert not played.ok
        assert played.turns == 1
        assert played.said


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("error x\nrewritten: SELECT 2\nnext: y", "SELECT 2"),
        ("1 row\nevents was read without a bound of time: add AND t > 1\n<x>", "SELECT 1 AND t > 1"),
        ("error x\nfix: y", None),
    ],
)
def test_the_script_takes_nothing_but_the_advice(text: str, sent: str | None) -> None:
    assert follow("SELECT 1", text) == sent


@pytest.mark.parametrize(
    ("expected", "columns", "rows", "same"),
    [
        ([], [], [], True),
        ([(1,)], ["n"], [], False),
        ([(1, "a"), (2, "b")], ["x", "n"], [["b", "2"], ["a", "1"]], True),
        ([(1, "a"), (2, "b")], ["x", "n"], [["a", "2"], ["b", "1"]], False),
        ([(1,), (1,)], ["n"], [["1"], ["2"]], False),
        ([(1,)], ["x", "n", "y"], [["z", "1", None]], True),
        ([(1, 1)], ["n"], [["1"]], False),
        ([(123456.789,)], ["n"], [["123456.79"]], True),
        ([(0.123456789,)], ["n"], [["0.123457"]], True),
        ([(0.5,)], ["n"], [["0.52"]], False),
        ([(None,)], ["n"], [[None]], True),
        ([(None,)], ["n"], [["0"]], False),
        ([(0,)], ["n"], [[None]], False),
        ([(True,), (False,)], ["n"], [["false"], ["1"]], True),
        ([(5,)], ["n"], [["five"]], False),
        ([("2026-01-01",)], ["n"], [["2026-01-01"]], True),
    ],
)
def test_rows_are_compared_as_a_set_in_any_order_of_columns(
    expected: list[Row], columns: list[str], rows: list[list[str | None]], same: bool
) -> None:
    assert matches(expected, columns, rows) is same


# A model --------------------------------------------------------------------------------------------------------------


def played_by(*turns: Any, world: World, toolkit: Toolkit, patch: pytest.MonkeyPatch) -> Played:
    patch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    with FakeModel(*turns) as fake, connect(fake.url) as provider:
        return play_model(provider, "some-model", question("total-events"), world, toolkit)


def test_a_model_is_scored_by_its_last_table(world: World, toolkit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question("total-events").call(world)
    turns = (
        [call("posthog_schema")],
        [call("posthog_query", query="SELECT nothing FROM events"), call("posthog_query", **asked)],
        [say("There are 5,000.")],
    )

    played = played_by(*turns, world=world, toolkit=toolkit, patch=monkeypatch)

    assert played.ok
    assert played.turns == 3
    assert played.tokens > 0


def test_a_model_that_only_talks_is_not_right(world: World, toolkit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    played = played_by([say("About 5,000?")], world=world, toolkit=toolkit, patch=monkeypatch)

    assert not played.ok
    assert played.said == "About 5,000?"


def test_a_model_that_comes_to_no_end_is_stopped(
    world: World, toolkit: Toolkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [[call("posthog_query", query="SELECT 1")]] * (MOST_TURNS + 1)

    played = played_by(*turns, world=world, toolkit=toolkit, patch=monkeypatch)

    assert not played.ok
    assert played.turns == MOST_TURNS
    assert "not done" in played.said


def test_without_a_key_or_the_package_it_is_said_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="set ANTHROPIC_API_KEY"):
        connect()
    assert evals.main(["--model", "some-model"]) == 2
    assert "set ANTHROPIC_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        connect()


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_reports_each_task_and_the_sums() -> None:
    out = io.StringIO()

    assert evals.main(["--tasks", "total-events, LAG", "--events", "3000"], out) == 0

    header, first, second, sums = out.getvalue().splitlines()
    assert header.split() == ["task", "ok", "tokens", "turns", "seconds"]
    assert (first.split()[:2], second.split()[:2]) == (["total-events", "yes"], ["LAG", "yes"])
    assert sums.startswith("2 of 2 ok, ")


def test_the_command_runs_a_model_on_the_questions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    out = io.StringIO()

    with FakeModel([say("I do not know.")]) as fake:
        status = evals.main(["--model", "m", "--base-url", fake.url, "--tasks", "total-*,LAG", "--events", "3000"], out)

    assert status == 1
    assert "0 of 1 ok" in out.getvalue()
    assert "--- total-events\nI do not know." in out.getvalue()


def test_the_command_lists_tasks_and_refuses_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()

    assert evals.main(["--list"], out) == 0
    assert len(out.getvalue().splitlines()) == len(QUESTIONS) + len(MISTAKES)
    assert evals.main(["--tasks", "nothing-like-it"]) == 2
    assert evals.main(["--events", "0"]) == 2
    assert "nothing to do" in capsys.readouterr().err
