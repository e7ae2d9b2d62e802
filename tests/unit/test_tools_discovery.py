"""What posthog_schema answers, from a scripted client: what comes first, what is counted, kept, and missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from posthog_driver import PostHogClient
from posthog_driver.exceptions import AuthenticationError, ObjectNotFoundError, PostHogError, ServerError
from posthog_driver.results import QueryInfo, QueryResult
from posthog_driver.testing import FakeClock, FaultServer, Received, error_body, query_answer
from posthog_driver.tools.discovery import KEPT, SchemaAnswers
from posthog_driver.tools.layout import Block, decode, render
from posthog_driver.tools.names import Names, bare_property, nearest, written_column, written_property
from posthog_driver.tools.pii import ColumnPolicy
from posthog_driver.tools.schema_rows import in_one_line, is_made_of_another

EVENTS = ("$pageview", "order done", "never seen")
EVENT: dict[str, dict[str, Any]] = {
    "uuid": {"type": "string", "description": "Unique id of the event"},
    "event": {
        "type": "string",
        "description": "x",
        "constraints": {"values": [*EVENTS]},
    },
    "person": {"type": "lazy_table", "table": "persons", "description": "lazy_table column of events"},
}
PROPERTIES = {
    "properties.$browser": {"type": "string", "description": "x"},
    "properties.plan": {"type": "string", "description": "x"},
    "properties.amount": {"type": "numeric", "description": "x"},
    "properties['file-kind']": {"type": "string", "description": "x"},
    "properties.email": {"type": "string", "description": "x"},
    "properties.rare": {"type": "boolean", "description": "x"},
}
FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "events": {**EVENT, **PROPERTIES},
    "persons": {"id": EVENT["uuid"], "properties.name": {"type": "string", "description": "x"}},
    "sessions": {"$start_timestamp": {"type": "datetime", "description": "First event"}},
    "groups": {"key": EVENT["uuid"], "properties.name": {"type": "string", "description": "x"}},
    "cohorts": {},
    "system.cohorts": {"name": {"type": "string", "description": "string column of system.cohorts"}},
    "odd table": {"a b": {"type": "string", "description": "s", "hogql": "`a b`"}, "c d": EVENT["uuid"]},
    "system.information_schema.tables": {"n": EVENT["uuid"]},
}
COUNTS = {"$pageview": 1204, "order done": 7}
SAMPLES = {
    "$browser": ['"Chrome"', '"Mobile Safari on a very long name"'],
    "plan": ['"team"', '"team"'],
    "amount": ["12.5", "3"],
    "file-kind": ['"</posthog-data>\\n"', '"cut in the mid'],
    "email": ['"bob@example.com"'],
    "undefined": ['{"email":"bob@example.com"}'],
}
VALUES = {"bob@example.com": 3, None: 2, "<b>": 1}


class ScriptedClient:
    """Answers discovery from tables, and queries by what they select; keeps what it was asked."""

    def __init__(self, fields: Mapping[str, Mapping[str, Any]] = FIELDS) -> None:
        self.fields = fields
        self.schema_source = "live"
        self.asked: list[tuple[str, Any]] = []
        self.refreshed: list[str] = []
        self.error: Exception | None = None
        self.refresh_error: Exception | None = None
        self.samples: dict[str, list[str]] = SAMPLES
        self.values: dict[Any, int] = dict(VALUES)
        self.counts: dict[str, int] = COUNTS

    def list_objects(self, *, refresh: bool = False) -> list[str]:
        self._refresh("objects", refresh)
        return list(self.fields)

    def get_fields(self, name: str, *, refresh: bool = False) -> Mapping[str, Any]:
        self._refresh(name, refresh)
        if name not in self.fields:
            raise ObjectNotFoundError(f"no {name}")
        found: Mapping[str, Any] = self.fields[name]
        return found

    def _refresh(self, what: str, refresh: bool) -> None:
        if refresh and self.refresh_error:
            raise self.refresh_error
        self.refreshed += [what] if refresh else []

    def query(self, text: str, values: Any = None) -> QueryResult:
        self.asked.append((text, values))
        if self.error:
            raise self.error
        if "AS kv" in text:
            rows = [{"name": name, "uses": 9, "samples": raws} for name, raws in self.samples.items()]
        elif "AS value" in text:
            rows = [{"value": value, "uses": number} for value, number in self.values.items()]
        else:
            rows = [{"event": name, "events": number} for name, number in self.counts.items()]
        return QueryResult(rows, QueryInfo(timezone="Europe/Prague"))


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient()


@pytest.fixture
def schema(client: ScriptedClient, fake_clock: FakeClock) -> SchemaAnswers:
    return SchemaAnswers(cast("PostHogClient", client), fake_clock)


def rows(block: Block) -> list[tuple[str | None, ...]]:
    return decode(render(block)).rows


def header(block: Block) -> str:
    return "\n".join(decode(render(block)).header)


# The project --------------------------------------------------------------------------------------------------------


def test_without_arguments_tables_and_the_most_frequent_events_are_listed(schema: SchemaAnswers) -> None:
    block = schema.answer({})

    assert rows(block) == [
        ("table", "events", "what happened: a row per event"),
        ("table", "persons", "who did it; from events: person.properties.NAME"),
        ("table", "sessions", "visits; from events: session.NAME"),
        ("table", "groups", "companies and other groups"),
        ("tables", "system.cohorts odd table", None),
        ("event", "$pageview", "1204"),
        ("event", "order done", "7"),
        ("event", "never seen", "0"),
    ]
    assert ", complete, today " in header(block)
    assert header(block).endswith(" in time zone Europe/Prague")


def test_events_beyond_thirty_are_counted_until_all_are_asked_for(
    client: ScriptedClient, schema: SchemaAnswers
) -> None:
    client.counts = {f"event {n}": 100 - n for n in range(50)}

    short, long = schema.answer({}), schema.answer({"detail": "all"})

    assert sum(row[0] == "event" for row in rows(short)) == 30
    assert "INCOMPLETE" in header(short)
    assert 'not shown: 23 more events. next: detail="all", or search' in header(short)
    assert sum(row[0] == "event" for row in rows(long)) == 53
    assert "complete" in header(long)


def test_as_many_events_as_are_counted_at_most_are_perhaps_not_all(
    client: ScriptedClient, schema: SchemaAnswers
) -> None:
    client.counts = {f"event {n}": 1 for n in range(5_000)}

    block = schema.answer({"detail": "all"})

    assert len(block.rows) == 5_009
    assert block.source == "perhaps"
    assert "next: search to narrow the names" in header(block)


def test_as_many_names_as_are_looked_at_at_most_are_announced(client: ScriptedClient, schema: SchemaAnswers) -> None:
    client.samples = {f"p{n}": [] for n in range(2_000)}

    assert "only the 2000 most used names were looked at" in header(schema.answer({"event": "$pageview"}))


def test_many_tables_are_counted_as_well(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.fields = {**FIELDS, **{f"t{n}": {} for n in range(60)}}

    assert (
        "tables",
        f"system.cohorts odd table {' '.join(f't{n}' for n in range(38))}",
        'and 22 more: detail="all"',
    ) in rows(schema.answer({}))
    assert ("table", "t59", None) in rows(schema.answer({"detail": "all"}))


def test_a_search_finds_tables_events_and_properties(schema: SchemaAnswers) -> None:
    assert rows(schema.answer({"search": "AM"})) == [
        ("property", "amount", "numeric"),
        ("person property", "name", "string"),
    ]
    assert rows(schema.answer({"search": "order"})) == [("event", "order done", "7")]
    assert rows(schema.answer({"search": "odd"})) == [("table", "odd table", None)]
    assert rows(schema.answer({"search": "file"})) == [("property", "properties['file-kind']", "string")]


def test_without_counts_the_rest_is_still_an_answer_that_says_so(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.error = ServerError("down")

    block = schema.answer({})

    assert "INCOMPLETE" in header(block)
    assert "not shown: counts of events, which could not be had (ServerError)" in header(block)
    assert {row[1:] for row in rows(block) if row[0] == "event"} == {
        ("$pageview", None), ("order done", None), ("never seen", None)
    }  # fmt: skip


def test_a_key_that_is_not_accepted_is_no_partial_answer(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.error = AuthenticationError("wrong key")

    for arguments in ({}, {"object": "events"}):
        with pytest.raises(AuthenticationError):
            schema.answer(arguments)


def test_the_end_of_a_conversations_budget_is_no_partial_answer(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.error = PostHogError("the budget is used up")

    with pytest.raises(PostHogError, match="used up"):
        schema.answer({})


# Objects and events -------------------------------------------------------------------------------------------------


def test_a_table_with_properties_shows_own_ones_first_as_they_are_written_with_samples(schema: SchemaAnswers) -> None:
    block = schema.answer({"object": "events"})

    assert rows(block) == [
        ("uuid event person", "columns", None),
        ("plan", "string", "team"),
        ("amount", "numeric", "12.5"),
        ("properties['file-kind']", "string", "</posthog-data>\\n; cut in the mid"),
        ("email", "string", "[email]"),
        ("undefined", None, rows(block)[5][2]),
        ("rare", "boolean", None),
        ("$browser", "string", "Chrome; Mobile Safari on a very…"),
    ]
    assert "bob" not in render(block)
    assert "sample of 2000 events, values cut at 24" in header(block)
    assert "HogQL: properties.NAME, or as shown" in header(block)


def test_at_most_34_properties_are_shown_first_and_both_kinds_are_among_them(
    client: ScriptedClient, schema: SchemaAnswers
) -> None:
    client.samples = {f"{prefix}p{n}": [] for n in range(60) for prefix in ("", "$")}

    block = schema.answer({"event": "$pageview"})

    names = [str(row[0]) for row in rows(block)]
    assert names == [f"p{n}" for n in range(22)] + [f"$p{n}" for n in range(12)]
    assert "not shown: 86 more properties" in header(block)


def test_places_that_one_kind_does_not_need_go_to_the_other(client: ScriptedClient, schema: SchemaAnswers) -> None:
    client.samples = {**{f"p{n}": [] for n in range(40)}, "$x": []}
    assert len(rows(schema.answer({"event": "$pageview"}))) == 34

    schema.refresh()
    client.samples = {**{f"$p{n}": [] for n in range(40)}, "x": []}
    assert len(rows(schema.answer({"event": "$pageview"}))) == 34


def test_all_properties_come_grouped_by_type(schema: SchemaAnswers) -> None:
    block = schema.answer({"object": "events", "detail": "all"})

    assert rows(block) == [
        ("columns", "uuid event person"),
        ("boolean", "rare"),
        ("numeric", "amount"),
        ("string", "plan properties['file-kind'] email"),
        ("unknown", "undefined"),
        ("string", "$browser"),
    ]
    assert ", complete" in header(block)


def test_two_hundred_properties_are_cheap_to_list(client: ScriptedClient, schema: SchemaAnswers) -> None:
    names = [
        f"{prefix}{word}_{n}" for n in range(25) for prefix in ("", "$") for word in ("order", "viewport", "utm", "geo")
    ]
    client.samples = {name: ['"Chrome"', '"Safari"'] for name in names}
    client.fields = {"events": {**EVENT, **{f"properties.{n}": {"type": "string", "description": "x"} for n in names}}}

    short, long = (
        render(schema.answer({"object": "events"})),
        render(schema.answer({"object": "events", "detail": "all"})),
    )

    assert len(names) == 200
    assert len(short) <= 1_650
    assert len(long) <= 3_300


def test_a_long_group_takes_several_whole_lines(client: ScriptedClient, schema: SchemaAnswers) -> None:
    client.samples = {f"property_{n:04}": [] for n in range(2_000)}

    answer = decode(render(schema.answer({"event": "$pageview", "detail": "all"})._replace(handle="q1")))

    assert not answer.shortened
    names = " ".join(str(row[1]) for row in answer.rows).split()
    assert names == list(client.samples)[: len(names)]
    assert 'next: posthog_query {"cursor":"q1.' in answer.header[0] or len(names) == 2_000


def test_an_event_shows_only_what_is_sent_with_it(schema: SchemaAnswers, client: ScriptedClient) -> None:
    assert "rare" not in [row[0] for row in rows(schema.answer({"event": "order done"}))]
    assert client.asked[-1][1] == {"event": "order done"}
    assert "LIMIT 2000" in client.asked[-1][0]
    assert "INTERVAL 30 DAY" in client.asked[-1][0]


def test_an_event_that_did_not_happen_lately_is_said_to(client: ScriptedClient, schema: SchemaAnswers) -> None:
    client.samples = {}

    assert "this event did not happen in the last 30 days" in header(schema.answer({"event": "never seen"}))


def test_a_search_narrows_columns_and_properties(schema: SchemaAnswers) -> None:
    assert [row[0] for row in rows(schema.answer({"object": "events", "search": "E"}))] == [
        "event person", "properties['file-kind']", "email", "undefined", "rare", "$browser"
    ]  # fmt: skip
    assert [row[0] for row in rows(schema.answer({"object": "events", "search": "plan"}))] == ["plan"]


def test_a_table_without_properties_lists_its_columns(schema: SchemaAnswers, client: ScriptedClient) -> None:
    assert rows(schema.answer({"object": "odd table"})) == [
        ("`a b`", "string", "s"), ("`c d`", "string", "Unique id of the event")
    ]  # fmt: skip
    assert rows(schema.answer({"object": "system.cohorts"})) == [("name", "string", None)]
    client.fields = {"wide": {f"c{n}": EVENT["person"] for n in range(50)}}
    assert rows(schema.answer({"object": "wide"}))[0] == ("c0", "lazy_table", "fields of persons")
    assert "not shown: 10 more columns" in header(schema.answer({"object": "wide"}))
    (everything,) = rows(schema.answer({"object": "wide", "detail": "all"}))
    assert everything == ("lazy_table", " ".join(f"c{n}" for n in range(50)))


def test_properties_that_cannot_be_sampled_come_without_samples_and_that_is_said(
    schema: SchemaAnswers, client: ScriptedClient
) -> None:
    client.error = ServerError("down")

    for detail in ("short", "all"):
        block = schema.answer({"object": "events", "detail": detail})
        assert "not sampled, so in no order: ServerError" in header(block)
        assert "plan" in render(block)
    assert "did not happen" not in header(schema.answer({"event": "order done"}))


def test_of_an_id_only_the_beginning_is_shown(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.samples = {"$session_id": [f'"01a1e97a-12f0-73b0-9cec-00000000000{n}"' for n in "12"]}

    block = schema.answer({"event": "$pageview"})

    assert rows(block) == [("$session_id", None, "01a1e97a…")]
    assert "values cut" in header(block)


def test_the_name_of_a_group_is_nobodys(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.samples = {"name": ['"Acme"']}

    assert ("name", "string", "Acme") in rows(schema.answer({"object": "groups"}))
    assert ("name", "string", "[name]") in rows(schema.answer({"object": "persons"}))


# Values -------------------------------------------------------------------------------------------------------------


def test_values_are_counted_and_personal_data_in_them_masked(schema: SchemaAnswers, client: ScriptedClient) -> None:
    block = schema.answer({"event": "order done", "property": "plan"}, ColumnPolicy(secret=b"test"))

    assert rows(block)[1:] == [(None, "2"), ("<b>", "1")]
    assert str(rows(block)[0][0]).startswith("email-")
    assert block.columns == ("value", "events")
    assert "masked as personal data: 1 e-mail address" in header(block)
    text, values = client.asked[-1]
    assert "toString(properties.plan)" in text
    assert "timestamp >= now() - INTERVAL 30 DAY AND event = {event}" in text
    assert values == {"event": "order done"}


def test_more_values_than_are_shown_are_announced(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.values = {f"v{n}": 1 for n in range(31)}

    block = schema.answer({"object": "events", "property": "plan"})

    assert len(rows(block)) == 30
    assert 'INCOMPLETE, last 30 days. not shown: less frequent values. next: detail="all"' in header(block)
    client.values = {f"v{n}": 1 for n in range(1_001)}
    assert "next: search to narrow the values" in header(schema.answer({"property": "plan", "detail": "all"}))


@pytest.mark.parametrize(
    ("arguments", "part", "values"),
    [
        ({"object": "events", "property": "event", "search": "50%"},
         "WHERE timestamp >= now() - INTERVAL 30 DAY AND toString(event) ILIKE {pattern}", {"pattern": "%50\\%%"}),
        ({"object": "persons", "property": "name"}, "(properties.name) AS value, count() AS uses FROM persons G", {}),
        ({"object": "sessions", "property": "$start_timestamp"},
         "FROM sessions WHERE $start_timestamp >= now() - INTERVAL 30 DAY GROUP", {}),
        ({"object": "system.cohorts", "property": "name"}, "FROM system.cohorts GROUP", {}),
        ({"object": "odd table", "property": "a b"}, "toString(`a b`) AS value, count() AS uses FROM `odd table`", {}),
        ({"property": "file-kind"}, "toString(properties.`file-kind`)", {}),
        ({"property": "undefined"}, "toString(properties.undefined)", {}),
    ],
)  # fmt: skip
def test_values_are_asked_of_the_right_place_with_what_was_given_bound(
    schema: SchemaAnswers, client: ScriptedClient, arguments: dict[str, str], part: str, values: dict[str, str]
) -> None:
    schema.answer(arguments)

    text, sent = client.asked[-1]
    assert part in text
    assert sent == values


def test_a_property_is_not_refused_when_nobody_knows_the_names(schema: SchemaAnswers, client: ScriptedClient) -> None:
    client.schema_source, client.samples, client.fields = "static", {}, {"events": {"uuid": EVENT["uuid"]}}

    block = schema.answer({"event": "order done", "property": "custom"})

    assert not block.problem
    assert "static schema, as the live one cannot be had" in header(block)


# Names that do not exist --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem", "first"),
    [
        ({"object": "event"}, "unknown_object", "events"),
        ({"object": "person", "property": "name"}, "unknown_object", "persons"),
        ({"event": "$pagevew"}, "unknown_event", "$pageview"),
        ({"event": "Order Done", "property": "plan"}, "unknown_event", "order done"),
        ({"event": "order done", "property": "brower"}, "unknown_property", "$browser"),
        ({"object": "sessions", "property": "start"}, "unknown_property", "$start_timestamp"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_the_nearest_ones(
    schema: SchemaAnswers, arguments: dict[str, str], problem: str, first: str
) -> None:
    block = schema.answer(arguments)

    assert block.problem == problem
    assert rows(block)[0] == (first,)
    lines = header(block).split("\n")
    assert lines[0] == f"error {problem}, nothing was run"
    assert [line.split(":")[0] for line in lines[1:]] == ["fix", "next"]


def test_an_event_is_not_called_unknown_when_events_could_not_be_counted(
    schema: SchemaAnswers, client: ScriptedClient
) -> None:
    client.error = ServerError("down")

    assert not schema.answer({"event": "something new"}).problem


def test_an_event_is_not_called_unknown_when_the_definitions_cannot_be_had(
    schema: SchemaAnswers, client: ScriptedClient
) -> None:
    client.fields, client.samples = {"events": {"event": {"type": "string", "description": "x"}}}, {}

    assert "did not happen in the last 30 days" in header(schema.answer({"event": "something old"}))
    assert ("event", "$pageview", "1204") in rows(schema.answer({}))


def test_the_likeliest_name_comes_first_and_a_name_like_none_gets_none() -> None:
    assert nearest("PLAN", ["planet", "plan", "airplane"]) == ["plan", "planet", "airplane"]
    assert nearest("$brwser", ["$browser", "$browser_version", "x"])[0] == "$browser"
    assert nearest("zzz", ["plan"]) == []
    assert nearest("", ["plan"]) == []
    assert nearest("n9999", (f"n{n}" for n in range(20_000)), 1) != []


# Names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["$browser", "file-kind", "it's", "a\\b", "first seen", "日本", "\n"])
def test_a_propertys_name_is_found_again_in_how_it_is_written(name: str) -> None:
    written = written_property(name)

    assert bare_property(written if written.startswith("properties") else f"properties.{name}") == name


def test_columns_have_no_property_name_and_odd_ones_stand_in_backticks() -> None:
    assert bare_property("timestamp") is None
    assert written_column("$session_id") == "$session_id"
    assert written_column("a b") == "`a b`"


def test_all_names_are_told_for_repairs(schema: SchemaAnswers) -> None:
    names = schema.names()

    assert names.tables == tuple(FIELDS)
    assert names.events == EVENTS
    assert names.properties == ("$browser", "plan", "amount", "file-kind", "email", "rare")
    assert names.person_properties == ("name",)
    assert names.fields["events"] == ("uuid", "event", "person")
    assert Names.of({}) == Names()


# What is kept -------------------------------------------------------------------------------------------------------


def test_counts_and_samples_are_kept_for_five_minutes_and_their_age_is_said(
    schema: SchemaAnswers, client: ScriptedClient, fake_clock: FakeClock
) -> None:
    schema.answer({"event": "order done"})
    fake_clock.advance(KEPT - 1)
    again = schema.answer({"event": "order done"})

    assert len(client.asked) == 2
    assert f"cached {KEPT - 1:.0f} s" in header(again)
    fake_clock.advance(1)
    assert "cached" not in header(schema.answer({"event": "order done"}))
    assert len(client.asked) == 4


def test_a_refresh_forgets_what_is_kept_and_reads_the_live_schema(
    schema: SchemaAnswers, client: ScriptedClient
) -> None:
    schema.answer({})
    schema.refresh()
    schema.answer({})

    assert len(client.asked) == 2
    assert client.refreshed == ["objects", "events"]


def test_a_refresh_without_the_live_schema_is_no_failure_but_a_wrong_key_is(
    schema: SchemaAnswers, client: ScriptedClient
) -> None:
    client.refresh_error = ServerError("down")
    schema.refresh()
    client.refresh_error = AuthenticationError("wrong key")

    with pytest.raises(AuthenticationError):
        schema.refresh()


def test_what_is_kept_is_bounded(schema: SchemaAnswers, client: ScriptedClient) -> None:
    for number in range(100):
        schema.answer({"property": "plan", "search": str(number)})
    asked = len(client.asked)
    schema.answer({"property": "plan", "search": "99"})
    assert len(client.asked) == asked
    schema.answer({"property": "plan", "search": "0"})
    assert len(client.asked) == asked + 1


def test_nobody_waits_for_a_lock_while_posthog_is_asked(fake_clock: FakeClock) -> None:
    both = threading.Barrier(2, timeout=20)

    class Slow(ScriptedClient):
        def query(self, text: str, values: Any = None) -> QueryResult:
            both.wait()
            return super().query(text, values)

    schema = SchemaAnswers(cast("PostHogClient", Slow()), fake_clock)
    threads = [threading.Thread(target=schema.answer, args=({"property": "plan", "search": s},)) for s in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not both.broken


def test_without_the_live_schema_the_static_core_answers_and_says_so(
    fault_server: FaultServer, connect: Callable[..., PostHogClient], fake_clock: FakeClock
) -> None:
    def answers(request: Received) -> tuple[int, Any]:
        if request.json["query"]["kind"] == "DatabaseSchemaQuery":
            return 403, error_body(403, "no scope for that", "permission_denied")
        return 200, query_answer([["$pageview", 3]], ["event", "events"])

    fault_server.default = answers
    block = SchemaAnswers(connect(), fake_clock).answer({})

    assert "static schema, as the live one cannot be had" in header(block)
    assert [row[1] for row in rows(block)] == ["events", "persons", "sessions", "groups", "$pageview"]


def test_numbered_columns_are_written_as_one_row_of_them() -> None:
    names = ["uuid", "group_0", "group_1", "group_2", "$group_0", "$group_1", "step_1", "step_3", "odd name"]

    assert in_one_line(names) == "uuid group_0..group_2 $group_0 $group_1 step_1 step_3 `odd name`"


def test_a_column_that_serves_another_one_is_known() -> None:
    columns = {"chain": {"type": "string"}, "person": {"type": "field_traverser"}, "poe": {"type": "virtual_table"}}
    names = ("chain_href", "chain", "person_id", "poe")

    assert [is_made_of_another(name, columns) for name in names] == [True, False, False, True]
