"""Every mistake is really made: its error is explained, and the query of the explanation answers the right rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from evals.mistakes import MISTAKES, Mistake
from posthog_driver import PostHogClient, PostHogError, QueryError
from posthog_driver.local import LocalPostHog
from posthog_driver.tools.names import Names
from posthog_driver.tools.notes import advise
from posthog_driver.tools.repair import MAX_TEXT, Problem, check_query, explain

# Accepted by this server; a stricter one is told apart by nothing but its error.
TAKEN = {"count-star", "semicolon", "join-inequality"}
# Right to PostHog, and not what was meant.
NOTED = {"no-time-bound", "distinct_id", "invented-event", "invented-property", "join-persons"}
FAILING = [mistake for mistake in MISTAKES if mistake.name not in TAKEN | NOTED]


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


@pytest.fixture(scope="module")
def names(client: PostHogClient) -> Names:
    fields = {table: client.get_fields(table) for table in client.list_objects()}
    return Names.of(fields, fields["events"]["event"]["constraints"]["values"])


def by_name(name: str) -> Mistake:
    return next(mistake for mistake in MISTAKES if mistake.name == name)


def refused(client: PostHogClient, names: Names, query: str) -> Problem:
    """What the model is told about a query that fails, by our own check or by PostHog."""
    found = check_query(query)
    if found is not None:
        return found
    with pytest.raises(PostHogError) as caught:
        client.query(query)
    return explain(caught.value, query, names)


def rows_of(client: PostHogClient, query: str, values: Any = None) -> list[str]:
    return sorted(str(list(row.values())) for row in client.query(query, values))


@pytest.mark.parametrize("mistake", FAILING, ids=lambda mistake: mistake.name)
def test_a_mistake_is_pointed_at_and_comes_back_with_the_query_that_gives_the_right_rows(
    client: PostHogClient, names: Names, mistake: Mistake
) -> None:
    found = refused(client, names, mistake.wrong)

    text = found.text("f1")
    first, shown, carets, *rest = text.splitlines()
    assert found.position is not None
    start, end = found.position
    assert first == f"error {found.kind} at {start}-{end}, nothing was run"
    assert set(carets) == {" ", "^"}
    assert mistake.wrong[start:end].startswith(shown[carets.index("^") : carets.rindex("^") + 1]) or start == end
    assert len(text) <= MAX_TEXT
    sent = next(line for line in rest if line.startswith("rewritten: "))[len("rewritten: ") :]
    assert rows_of(client, sent, mistake.values) == rows_of(client, mistake.right)


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_what_a_stricter_server_refuses_is_rewritten_to_the_same_rows(
    client: PostHogClient, names: Names, name: str
) -> None:
    mistake = by_name(name)
    code = "invalid_join_on_expression" if name == "join-inequality" else "syntax_error"

    found = explain(QueryError("refused", detail="refused", code=code), mistake.wrong, names)

    assert found.rewritten is not None
    assert rows_of(client, found.rewritten) == rows_of(client, mistake.wrong) == rows_of(client, mistake.right)


@pytest.mark.parametrize("name", sorted(NOTED - {"no-time-bound"}))
def test_a_query_that_works_and_is_not_what_was_meant_gets_a_note_with_the_right_one(
    client: PostHogClient, names: Names, name: str
) -> None:
    mistake = by_name(name)
    rows = [list(row.values()) for row in client.query(mistake.wrong)]

    notes = advise(mistake.wrong, rows, lambda: names)

    rewritten = next(note for note in notes if note.startswith("rewritten: "))[len("rewritten: ") :]
    assert rows_of(client, rewritten) == rows_of(client, mistake.right)


def test_a_query_without_a_bound_of_time_is_told_which_one_to_add(client: PostHogClient) -> None:
    mistake = by_name("no-time-bound")

    (note,) = advise(mistake.wrong, [[1]])

    addition = note.partition(": add ")[2]
    assert rows_of(client, f"{mistake.wrong} {addition}") == rows_of(client, mistake.right)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_right_query_has_no_notes(mistake: Mistake) -> None:
    assert advise(mistake.right, [["something"]]) == ()


def test_tables_of_the_newer_planes_are_pointed_to_their_prefix(client: PostHogClient, names: Names) -> None:
    query = "SELECT count() FROM ai_events WHERE ai_events.timestamp > now() - INTERVAL 1 DAY"

    found = refused(client, names, query)

    assert found.rewritten == (
        "SELECT count() FROM posthog.ai_events AS ai_events WHERE ai_events.timestamp > now() - INTERVAL 1 DAY"
    )
    assert found.kind == "unknown_table"


def test_what_cannot_be_rewritten_shows_the_words_of_posthog_in_a_fence_and_the_nearest_names(
    client: PostHogClient, names: Names
) -> None:
    found = refused(client, names, "SELECT properties.plan, browsers FROM events LIMIT 1")

    lines = found.text("f1").splitlines()
    assert found.rewritten is None
    fenced = lines[lines.index('<posthog-data id="f1">') + 1 : lines.index('</posthog-data id="f1">')]
    assert fenced[0] == "Unable to resolve field: browsers"
    assert "properties.$browser" in fenced[1]
    assert lines[-1] == "next: change the query and call posthog_query again"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("SELECT count( FROM events", "syntax"),
        ("SELECT nothing FROM events", "unknown_field"),
        ("SELECT 1 FROM nowhere", "unknown_table"),
        ("SELECT neverHeardOf(1)", "unknown_function"),
        ("SELECT length(1, 2)", "wrong_arity"),
        ("SELECT length(5)", "type"),
        ("SELECT avg(count()) FROM events", "aggregation"),
        ("SELECT {1 + x}", "missing_value"),
    ],
)
def test_the_kind_says_what_sort_of_mistake_it_is(client: PostHogClient, names: Names, query: str, kind: str) -> None:
    assert refused(client, names, query).kind == kind
