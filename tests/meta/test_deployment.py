"""The image and its document: every setting is told, what is pinned is what is declared, and no key gets in."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from posthog_driver import cli, config
from posthog_driver.local import LocalPostHog

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "DEPLOYMENT.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("posthog-driver ")
]


def test_the_table_of_settings_has_every_variable_that_is_read_and_its_default() -> None:
    rows = re.findall(r"^\| `(POSTHOG_\w+)` \|([^|]*)\|", DOCUMENT, re.MULTILINE)
    told = {variable: default.strip(" `") for variable, default in rows}
    read = {variable: field for field, (variable, _) in config._ENVIRONMENT.items()}

    assert told.keys() == read.keys()
    plain = config.PostHogConfig(api_key="phx_test", project_id=1)
    for variable, default in told.items():
        if default and not default.startswith("follows"):
            assert str(getattr(plain, read[variable])).removesuffix(".0") == default


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_that_test_an_installation_run(
    command: str, local_posthog: LocalPostHog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTHOG_API_URL", local_posthog.url)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", local_posthog.personal_api_key)

    assert cli.main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_the_image_pins_every_dependency_that_the_package_declares() -> None:
    pinned = dict(
        line.split("==")
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    declared = re.findall(
        r'^\s+"([\w-]+)[><=]', setup.partition("install_requires=[")[2].partition("]")[0], re.MULTILINE
    )

    assert set(declared) <= pinned.keys()
    assert "--no-deps /build" in DOCKERFILE


def test_no_target_runs_as_root_and_each_has_a_health_check() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    last = {stage.split(" AS ")[1].split()[0]: stage for stage in stages}

    for target in ("driver", "mcp", "local"):
        assert "\nUSER 10001" in last[target]
        assert "\nHEALTHCHECK " in last[target]
        assert f"`{target}`" in DOCUMENT
    assert list(last)[-1] == "driver"


def test_the_context_of_the_build_is_listed_by_name_so_that_no_key_gets_in() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]

    assert lines[0] == "*"
    copied = " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)).split()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied)
    assert not re.search(r"(?i)^(ARG|ENV).*(KEY|TOKEN|SECRET)", DOCKERFILE, re.MULTILINE)
