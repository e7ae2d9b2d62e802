"""docs/local.md is true: its scripts run, its tests pass under pytest, its service starts, its options exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from posthog_driver.local import faults
from posthog_driver.local.questions import KINDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "local.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SCRIPTS = [text for text in PYTHON if "def test_" not in text]


def test_there_are_three_worked_examples_and_more() -> None:
    assert len(SCRIPTS) == 3
    assert [language for language, _ in BLOCKS].count("yaml") == 1


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_each_script_runs(number: int) -> None:
    exec(compile(SCRIPTS[number], f"docs/local.md, script {number + 1}", "exec"), {"__name__": "document"})


def test_the_tests_pass_under_pytest(tmp_path: Path) -> None:
    (example,) = [text for text in PYTHON if "def test_" in text]
    (tmp_path / "test_example.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "posthog_driver.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_service_starts_as_it_is_written_and_is_healthy(tmp_path: Path) -> None:
    """The command of the compose file, without the container around it and on a free port of loopback."""
    written = " ".join(re.search(r"posthog-driver local (--host.*?)\n    volumes", TEXT, re.DOTALL)[1].split())
    options = shlex.split(written.rstrip('"').replace("/data", str(tmp_path)).replace("8010", "0"))
    command = [sys.executable, "-m", "posthog_driver", "local", *options, "--events", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            address = facts["url"].replace("0.0.0.0", "127.0.0.1")
            with urllib.request.urlopen(f"{address}/_health", timeout=30) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert f"POSTHOG_PERSONAL_API_KEY: {facts['personal_api_key']}" in TEXT
    assert f"POSTHOG_PROJECT_API_KEY: {facts['project_api_key']}" in TEXT


def test_every_option_of_the_table_is_one_of_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "posthog_driver", "local", "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    named = set(re.findall(r"`[^`]*?(--[a-z-]+)", "\n".join(re.findall(r"^\| (`--.*?) \|", TEXT, re.MULTILINE))))
    assert named
    assert {option for option in named if option not in shown} == set()


def test_every_question_that_is_named_is_answered_and_the_other_way_round() -> None:
    listed = re.search(r"\*\*Product questions\*\*: (.*?)\n- ", TEXT, re.DOTALL)
    assert listed is not None
    named = set(re.findall(r"`(\w+Query)`", listed[1])) - {"DatabaseSchemaQuery"}
    unnamed = {"TeamTaxonomyQuery", "EventTaxonomyQuery", "ActorsPropertyTaxonomyQuery", "PropertyValuesQuery"}
    assert named | unnamed == set(KINDS)


def test_the_named_faults_exist() -> None:
    listed = re.search(r"by name \((.*?)\)", TEXT, re.DOTALL)
    assert listed is not None
    named = re.findall(r"`(\w+)`", listed[1])
    for name in named:
        assert faults.Fault(name=name)
