"""What must not be committed, and what must."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ["LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".env.example", "Makefile", ".ci/run"]
KEPT += ["setup.py", "pyproject.toml", "requirements.txt", "requirements-dev.txt", ".pre-commit-config.yaml"]
SECRET = re.compile(r"\b(?:ph[cxsa]_[A-Za-z0-9]{20,}|e2b_[a-z0-9]{20,}|sk-ant-[A-Za-z0-9-]{20,})")
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users)/[a-z]\w+|(?<![\w.])/wor[k]/")


def tracked() -> list[Path]:
    """Every file of the repository, or every file here when this is no checkout (a source distribution)."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return [path for name in done.stdout.split("\n") if name and (path := ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and not any(p.startswith(".venv") for p in path.parts)]


@pytest.mark.parametrize("name", KEPT)
def test_the_files_that_people_look_for_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


@pytest.mark.parametrize("pattern", [SECRET, MACHINE], ids=["secret", "path of a machine"])
def test_no_file_holds_what_must_not_be_committed(pattern: re.Pattern[str]) -> None:
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []


def test_the_env_example_holds_every_variable_and_no_value() -> None:
    from posthog_driver.config import _ENVIRONMENT

    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for variable, _ in _ENVIRONMENT.values():
        assert f"{variable}=" in text
    assert re.findall(r"^POSTHOG_(?:PERSONAL|PROJECT)_\w*KEY=(.+)$", text, re.MULTILINE) == []
