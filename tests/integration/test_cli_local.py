"""The command as people run it: a process of its own, against an embedded PostHog."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.local import LocalPostHog

COMMAND = [sys.executable, "-m", "posthog_driver"]
SECONDS = 120  # a guard against hanging, not a measure

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(local_posthog: LocalPostHog, tmp_path: Path) -> dict[str, str]:
    """A locale that is not UTF-8, and nothing of ours but the address: the keys are in ``.env``."""
    (tmp_path / ".env").write_text(
        f"POSTHOG_PERSONAL_API_KEY={local_posthog.personal_api_key}\nPOSTHOG_PROJECT_ID={local_posthog.project_id}\n"
    )
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "PYTHONIOENCODING": "ascii", "POSTHOG_API_URL": local_posthog.url}


@pytest.fixture
def run(local_posthog: LocalPostHog, environment: dict[str, str], tmp_path: Path) -> Run:
    def call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            **options,
        )
        assert local_posthog.personal_api_key not in done.stdout + done.stderr
        return done

    return call


def test_a_query_with_a_bound_value_answers_in_each_format(run: Run, local_posthog: LocalPostHog) -> None:
    query = (
        "SELECT event, count() AS n, 'é\n' AS text, null AS nothing FROM events WHERE event = {event} GROUP BY event"
    )
    n = local_posthog.truth["event_counts"]["$pageview"]
    row = {"event": "$pageview", "n": n, "text": "é\n", "nothing": None}
    arguments = ("query", query, "--value", "event=$pageview", "--format")
    assert json.loads(run(*arguments, "json").stdout) == [row]
    assert json.loads(run(*arguments, "ndjson").stdout) == row
    table = run(*arguments, "table").stdout.splitlines()
    assert table[2].split() == ["$pageview", str(n), "é\\n", "NULL"]


def test_a_query_from_standard_input_comes_out_as_csv(run: Run) -> None:
    done = run("query", "-", "--format", "csv", input="SELECT '=1,\"é' AS a, null AS b, [1, 2] AS c")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(csv.reader(io.StringIO(done.stdout))) == [["a", "b", "c"], ['=1,"é', "", "[1, 2]"]]


def test_a_default_limit_is_noted(run: Run) -> None:
    done = run("query", "SELECT uuid FROM events", "--format", "ndjson")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 100)
    assert "was cut by PostHog at 100 rows" in done.stderr


def test_what_exists_can_be_listed_and_described(run: Run) -> None:
    names = run("objects").stdout.splitlines()
    assert {"events", "persons", "sessions"} <= set(names)
    fields = json.loads(run("fields", "events", "--format", "json").stdout)
    assert fields["properties.$browser"]["type"] == "string"


def test_a_refused_query_is_one_readable_line(run: Run) -> None:
    done = run("query", "SELECT nonsense FROM events")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert "nonsense" in done.stderr


def test_health_is_ok_and_a_wrong_key_is_not(run: Run, environment: dict[str, str]) -> None:
    done = run("health")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    environment["POSTHOG_PERSONAL_API_KEY"] = "phx_wrong"
    done = run("health")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (1, "", 1)
    assert done.stdout.startswith("unhealthy: ")
    assert run("query", "SELECT 1").returncode == 3


def test_a_reader_that_leaves_early_is_no_failure(environment: dict[str, str], tmp_path: Path) -> None:
    query = "SELECT properties FROM events LIMIT 5000"
    with subprocess.Popen(
        [*COMMAND, "query", query], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 0


def test_the_demo_shows_the_whole_job_and_what_to_do_next(run: Run) -> None:
    done = run("demo", "--events", "2000", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) < 100
    assert max(map(len, done.stdout.splitlines())) <= 120
    for part in ("What can be asked about?", "properties.$browser", "windowFunnel", "█", '{"event": "signed_up"'):
        assert part in done.stdout
    commands = done.stdout.partition(" local --port 8010 --fixed-keys")[2]
    names = ("POSTHOG_API_URL", "POSTHOG_PROJECT_ID", "POSTHOG_PERSONAL_API_KEY", "POSTHOG_PROJECT_API_KEY")
    assert all(f"{name}=" in commands for name in names)


def test_local_serves_until_it_is_told_to_stop(environment: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "local", "--events", "100"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        settings = {
            "POSTHOG_API_URL": facts["url"],
            "POSTHOG_PROJECT_ID": str(facts["project_id"]),
            "POSTHOG_PERSONAL_API_KEY": facts["personal_api_key"],
        }
        query = [*COMMAND, "query", "SELECT count() AS n FROM events", "--format", "ndjson"]
        rows = subprocess.run(
            query, cwd=tmp_path, env={**environment, **settings}, stdout=subprocess.PIPE, timeout=SECONDS
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert json.loads(rows.stdout) == {"n": 100}
