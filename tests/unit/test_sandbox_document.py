"""docs/sandbox.md is true: its scripts run, its commands exist, its tables name what there is."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from posthog_driver import cli
from posthog_driver.sandbox import E2BBackend, SandboxLimits, errors, local
from posthog_driver.sandbox.levels import SCRATCH_BYTES

TEXT = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_each_script_runs(number: int) -> None:
    exec(compile(SCRIPTS[number], f"docs/sandbox.md, script {number + 1}", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_one(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program == "posthog-driver"
    options = cli._parser().parse_args(arguments)
    assert options.command == "sandbox"


def table(title: str) -> list[list[str]]:
    """The rows of the first table below a title."""
    rows = re.search(r"\n\|.*?\n(?:\n|\Z)", TEXT[TEXT.index(f"## {title}") :], re.DOTALL)[0].strip().splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_every_limit_is_listed_with_its_default() -> None:
    units = {"s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "": 1}
    listed = {}
    for name, default, _ in table("Limits"):
        number, _, unit = default.partition(" ")
        listed[name.strip("`")] = int(number) * units[unit]
    assert listed == {field.name: field.default for field in fields(SandboxLimits)}


def test_every_error_is_listed() -> None:
    named = {re.match(r"`(\w+)`", row[0])[1] for row in table("Errors")}
    assert named | {"SandboxError"} == set(errors.__all__)


def test_every_level_is_listed() -> None:
    header = re.search(r"^\| \| (.*) \|$", TEXT, re.MULTILINE)[1]
    assert [cell.strip(" `") for cell in header.split("|")] == list(local.LEVELS)
    assert f"{SCRATCH_BYTES >> 20} MiB" in TEXT


def test_every_way_of_the_key_is_listed() -> None:
    from posthog_driver.sandbox.e2b_delivery import SECRETS

    assert [row[0].strip('`"') for row in table("In E2B")] == list(SECRETS)
    assert {"secret", "secret_name"} <= set(inspect.signature(E2BBackend).parameters)
