"""What rows of files become, and what is said of those that become nothing."""

from __future__ import annotations

import csv
import datetime
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.capture import plan_batches
from posthog_driver.exceptions import MissingDependencyError, ValidationError
from posthog_driver.importing import MAX_REFUSALS, Progress, Refusal, import_events, to_event

ROW = {"event": "paid", "distinct_id": "ada", "timestamp": "2026-01-02T03:04:05Z"}


class Door:
    """Takes events as the client does, with the client's own checks."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def capture_batch(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        plan_batches("phc_test", events, 0.0)
        self.events += events
        return {"events": len(events)}


@pytest.fixture
def door() -> Door:
    return Door()


def ndjson(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return file


# ---------------------------------------------------------------------------------------------------------- to_event


def test_a_row_of_the_four_plain_columns_is_the_event_itself() -> None:
    uuid = "01900000-0000-7000-8000-00000000000a"
    assert to_event({**ROW, "uuid": uuid}, 1) == {
        "event": "paid",
        "distinct_id": "ada",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "properties": {},
        "uuid": uuid,
    }


def test_other_columns_are_properties_and_the_properties_object_wins_over_them() -> None:
    event = to_event({**ROW, "plan": "pro", "seats": 3, "empty": "", "properties": '{"plan": "free"}'}, 1)
    assert event["properties"] == {"plan": "free", "seats": 3}


def test_columns_that_mean_something_only_where_they_come_from_are_left_out() -> None:
    assert to_event({**ROW, "team_id": 2, "person_id": "x", "created_at": "2026"}, 1)["properties"] == {}


def test_what_changes_the_person_comes_from_any_of_the_exports_columns() -> None:
    fields = {
        "person": {"properties": {"a": 1, "b": 1, "c": 1}},
        "person_properties": '{"b": 2, "c": 2}',
        "set": {"c": 3},
        "set_once": {"d": 4},
        "properties": {"$set": {"e": 5}},
    }
    properties = to_event({**ROW, **fields}, 1)["properties"]
    assert properties == {"$set": {"a": 1, "b": 2, "c": 3, "e": 5}, "$set_once": {"d": 4}}


def test_the_address_and_the_elements_become_properties_of_posthogs_names() -> None:
    properties = to_event({**ROW, "ip": "10.0.0.1", "elements_chain": "a"}, 1)["properties"]
    assert properties == {"$ip": "10.0.0.1", "$elements_chain": "a"}


def test_an_id_that_is_a_uuid_is_taken_for_one_and_another_id_is_not() -> None:
    uuid = "01900000-0000-7000-8000-00000000000a"
    assert to_event({**ROW, "id": uuid}, 1)["uuid"] == uuid
    assert to_event({**ROW, "id": "17"}, 1)["uuid"] != to_event({**ROW, "id": "18"}, 1)["uuid"]


def test_the_distinct_id_may_sit_in_the_properties() -> None:
    event = {**ROW, "distinct_id": None, "properties": {"distinct_id": "bob"}}
    assert to_event(event, 1)["distinct_id"] == "bob"


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100000+00:00"),
        ("2026-01-02 03:04:05.123456789 UTC", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05+02:00"),
        (datetime.datetime(2026, 1, 2), "2026-01-02T00:00:00+00:00"),
    ],
)
def test_a_time_is_read_in_the_forms_that_exports_have(given: Any, moment: str) -> None:
    assert to_event({**ROW, "timestamp": given}, 1)["timestamp"] == moment


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event": ""}, "no event name"),
        ({"event": 5}, "no event name"),
        ({"timestamp": None}, "no time"),
        ({"timestamp": "yesterday"}, "'yesterday' is no ISO 8601 time"),
        ({"uuid": "no-uuid"}, "uuid 'no-uuid' is none"),
        ({"properties": "{"}, "'properties' is no JSON"),
        ({"properties": "[1]"}, "'properties' is no object but list"),
        ({"set": 5}, "'set' is no object but int"),
    ],
)
def test_a_row_that_is_no_event_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_event({**ROW, **change}, 1)


@given(st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text()), st.integers(1, 10**9))
def test_the_uuid_of_a_row_is_the_same_each_time_and_another_in_another_row(extra: dict[str, Any], row: int) -> None:
    fields = {**extra, **ROW}
    fields.pop("uuid", None)
    fields.pop("id", None)
    for name in ("properties", "set", "set_once", "person_properties", "person"):
        fields.pop(name, None)
    assert to_event(fields, row)["uuid"] == to_event(dict(fields), row)["uuid"] != to_event(fields, row + 1)["uuid"]


# ------------------------------------------------------------------------------------------------------------- NDJSON


def test_ndjson_is_read_line_by_line_and_bad_lines_are_reported_with_their_numbers(
    door: Door, write: Callable[..., Path]
) -> None:
    content = (
        ndjson(ROW) + "\n{broken\n" + ndjson([ROW], {**ROW, "event": ""}, {**ROW, "plan": "pro", "team_id": 1}) + "null"
    )
    report = import_events(door, write("a.ndjson", content))
    assert [event["properties"] for event in door.events] == [{}, {"plan": "pro"}]
    assert (report.events, report.refused) == (2, 4)
    assert [refusal.row for refusal in report.refusals] == [3, 4, 5, 7]
    assert "no JSON" in report.refusals[0].reason
    assert report.refusals[1] == Refusal(4, "it is no object but list: write one object a line")
    assert (report.properties, report.left_out) == (("plan",), ("team_id",))


def test_a_gzipped_file_is_read_whatever_its_name_says(door: Door, write: Callable[..., Path]) -> None:
    import_events(door, write("a.jsonl.gz", gzip.compress(ndjson(ROW, ROW).encode())))
    import_events(door, write("b.json", gzip.compress(ndjson(ROW).encode())))
    assert len(door.events) == 3


def test_a_gzipped_file_that_was_cut_is_an_error_that_says_how_far_it_went(
    door: Door, write: Callable[..., Path]
) -> None:
    whole = gzip.compress(ndjson(*({**ROW, "n": n} for n in range(9_000))).encode())
    with pytest.raises(ValidationError, match=r"a.ndjson.gz cannot be read as ndjson after [\d,]+ events"):
        import_events(door, write("a.ndjson.gz", whole[:-200]))


def test_a_row_that_the_client_refuses_does_not_take_its_neighbours_along(
    door: Door, write: Callable[..., Path]
) -> None:
    rows = [ROW, {**ROW, "distinct_id": ""}, ROW]
    report = import_events(door, write("a.ndjson", ndjson(*rows)))
    assert len(door.events) == report.events == 2
    assert [(refusal.row, "distinct_id is needed" in refusal.reason) for refusal in report.refusals] == [(2, True)]


def test_all_refused_rows_are_counted_and_the_first_are_shown(door: Door, write: Callable[..., Path]) -> None:
    report = import_events(door, write("a.ndjson", "x\n" * (MAX_REFUSALS + 5)))
    assert (report.refused, len(report.refusals)) == (MAX_REFUSALS + 5, MAX_REFUSALS)


def test_progress_ends_at_the_size_of_the_file(door: Door, write: Callable[..., Path]) -> None:
    path = write("a.ndjson", ndjson(*({**ROW, "n": n} for n in range(5_000))))
    steps: list[Progress] = []
    import_events(door, path, on_progress=steps.append)
    assert [step.events for step in steps] == [2_000, 4_000, 5_000]
    assert steps[-1].done == steps[-1].total == path.stat().st_size
    assert [step.done for step in steps] == sorted(step.done for step in steps)


# ---------------------------------------------------------------------------------------------------------------- CSV


def test_csv_columns_have_the_types_that_json_would_give_them(door: Door, write: Callable[..., Path]) -> None:
    heading = "event,distinct_id,timestamp,seats,zip,share,paid,note,properties\n"
    line = 'paid,007,2026-01-02,3,01234,0.5,true,"a, ""b""\nc","{""x"": 1}"\n'
    import_events(door, write("a.csv", "\ufeff" + heading + line))
    (event,) = door.events
    assert event["distinct_id"] == "007"
    assert event["properties"] == {"seats": 3, "zip": "01234", "share": 0.5, "paid": True, "note": 'a, "b"\nc', "x": 1}


@pytest.mark.parametrize("line", ["paid,ada\n", "paid,ada,2026-01-02,extra\n"])
def test_a_csv_line_with_another_number_of_fields_is_refused(door: Door, write: Callable[..., Path], line: str) -> None:
    report = import_events(door, write("a.csv", "event,distinct_id,timestamp\n" + line))
    assert report.refusals == (Refusal(1, "it has not as many fields as the first line (3)"),)


@pytest.mark.parametrize("content", ["", "name,time\nx,y\n"])
def test_a_csv_file_without_an_event_column_is_an_error(door: Door, write: Callable[..., Path], content: str) -> None:
    with pytest.raises(ValidationError, match="'event' among them"):
        import_events(door, write("a.csv", content))


def test_a_csv_file_that_is_not_utf8_or_has_a_broken_quote_is_an_error(door: Door, write: Callable[..., Path]) -> None:
    heading = b"event,distinct_id,timestamp\n"
    for line in (b"paid,\xff,2026-01-02\n", b'paid,"ada"x,2026-01-02\n'):
        with pytest.raises(ValidationError, match="cannot be read as csv"):
            import_events(door, write("a.csv", heading + line))


def test_a_long_csv_field_is_read_and_the_limit_for_others_stays(door: Door, write: Callable[..., Path]) -> None:
    before = csv.field_size_limit()
    import_events(door, write("a.csv", f"event,distinct_id,timestamp,note\npaid,a,2026-01-02,{'x' * 300_000}\n"))
    assert len(door.events[0]["properties"]["note"]) == 300_000
    assert csv.field_size_limit() == before


# ------------------------------------------------------------------------------------------------------------ Parquet


def test_parquet_rows_keep_their_types_maps_and_times(door: Door, tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000, datetime.timezone.utc)
    table = pyarrow.table(
        {
            "event": ["a", "b"],
            "distinct_id": ["x", "y"],
            "timestamp": pyarrow.array([moment, moment], pyarrow.timestamp("us", "UTC")),
            "properties": pyarrow.array([[("k", "v")], None], pyarrow.map_(pyarrow.string(), pyarrow.string())),
            "seats": [1, None],
            "since": [datetime.date(2026, 1, 1), None],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    steps: list[Progress] = []
    import_events(door, tmp_path / "a.parquet", on_progress=steps.append)
    assert [event["properties"] for event in door.events] == [{"seats": 1, "since": "2026-01-01", "k": "v"}, {}]
    assert door.events[0]["timestamp"] == "2026-01-02T03:04:05.678000+00:00"
    assert steps == [Progress(2, 2, 2)]


def test_a_file_that_is_no_parquet_or_has_no_events_is_an_error(door: Door, write: Callable[..., Path]) -> None:
    with pytest.raises(ValidationError, match="cannot be read as parquet"):
        import_events(door, write("a.parquet", "no"))
    path = write("b.parquet", "")
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), path)
    with pytest.raises(ValidationError, match="has no column 'event'"):
        import_events(door, path)


def test_without_pyarrow_the_error_names_what_to_install(
    door: Door, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "posthog-driver\[local\]"'):
        import_events(door, write("a.parquet", "x"))


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_format_can_be_given_and_must_be_one_of_three(door: Door, write: Callable[..., Path]) -> None:
    path = write("events.txt", ndjson(ROW))
    with pytest.raises(ValidationError, match="no suffix that tells what it is"):
        import_events(door, path)
    with pytest.raises(ValidationError, match="format is one of ndjson, csv, parquet, not 'xml'"):
        import_events(door, path, format="xml")
    assert import_events(door, path, format="ndjson").events == 1


def test_a_file_that_is_not_there_is_an_error_that_names_it(door: Door, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"missing.csv cannot be read as csv: .*No such file"):
        import_events(door, tmp_path / "missing.csv")
