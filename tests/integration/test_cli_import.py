"""``posthog-driver local --import``: what is said meanwhile, and what is there afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from posthog_driver import PostHogClient, PostHogConfig
from posthog_driver.local import LocalPostHog

ROWS = [
    {
        "event": "order placed",
        "distinct_id": f"user {n % 7}",
        "timestamp": "2026-01-05T10:00:00Z",
        "total": n,
        "team_id": 1,
    }
    for n in range(4_500)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "".join(f"broken {n}\n" for n in range(12)))
    return path


@contextmanager
def running(*options: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Run the command until its one line comes; gives that, and a list that holds standard error at the end."""
    command = [sys.executable, "-m", "posthog_driver", "local", "--exit-with-stdin", *options]
    said: list[str] = []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        line = process.stdout.readline()
        yield json.loads(line) if line else {}, said
        said += process.communicate(timeout=60)[1].splitlines()


def count(facts: dict[str, str]) -> list[dict[str, object]]:
    config = PostHogConfig(facts["personal_api_key"], facts["project_id"], api_url=facts["url"])
    with PostHogClient(config) as client:
        return list(client.query("SELECT count() AS events, sum(properties.total) AS total FROM events"))


def test_a_file_is_imported_before_the_server_is_announced(file: Path, tmp_path: Path) -> None:
    expected = [{"events": len(ROWS), "total": sum(row["total"] for row in ROWS)}]
    data = str(tmp_path / "data")
    with running("--data", data, "--import", str(file)) as (facts, said):
        assert count(facts) == expected
    bars = [line for line in said if line.startswith("orders.ndjson [")]
    assert [line.split("] ")[1] for line in bars][-1] == "100% 4,500 events"
    assert len(bars) == 3
    assert "orders.ndjson: 4,500 events imported, 12 rows refused." in said
    assert sum(line.startswith("  row ") for line in said) == 10
    assert "  and 2 more" in said
    assert "  Columns taken as properties: total" in said
    assert "  Columns left out: team_id" in said
    with running("--data", data, "--import", str(file)) as (facts, _):
        assert count(facts) == expected


def test_demo_data_stays_when_it_is_asked_for(file: Path) -> None:
    with running("--events", "100", "--import", str(file)) as (facts, _):
        assert count(facts)[0]["events"] == len(ROWS) + 100


def test_a_file_that_cannot_be_read_is_an_error_and_no_server(tmp_path: Path) -> None:
    with running("--import", str(tmp_path / "missing.csv")) as (facts, said):
        assert facts == {}
    assert any("missing.csv cannot be read as csv" in line for line in said)


def test_the_same_is_had_in_python(file: Path) -> None:
    with LocalPostHog(events=0) as local, local.client() as client:
        report = local.import_events(file)
        assert (report.events, report.refused, report.properties) == (len(ROWS), 12, ("total",))
        people = client.query("SELECT uniq(person_id) AS people FROM events")
        assert list(people) == [{"people": 7}]
