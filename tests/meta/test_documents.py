"""The README is true: its Python runs against the embedded PostHog, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthog_driver.local import LocalPostHog

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def posthog() -> Iterator[LocalPostHog]:
    """An embedded PostHog of our own, as the README sends events."""
    with LocalPostHog(events=2_000, seed=1) as started:
        yield started


def environment(posthog: LocalPostHog) -> dict[str, str]:
    """What the README tells to set."""
    return {
        "POSTHOG_PERSONAL_API_KEY": posthog.personal_api_key,
        "POSTHOG_PROJECT_ID": str(posthog.project_id),
        "POSTHOG_PROJECT_API_KEY": posthog.project_api_key,
        "POSTHOG_API_URL": posthog.url,
    }


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_each_python_snippet_runs(number: int, posthog: LocalPostHog, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(posthog).items():
        monkeypatch.setenv(name, value)
    exec(compile(PYTHON[number], f"README.md, snippet {number + 1}", "exec"), {"__name__": "readme"})


def test_the_error_snippet_says_what_its_comment_promises(
    posthog: LocalPostHog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(posthog).items():
        monkeypatch.setenv(name, value)
    (snippet,) = [text for text in PYTHON if "error.detail" in text]
    exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})
    promised = re.search(r"# (400 .+)$", snippet, re.MULTILINE)
    assert promised is not None
    assert capsys.readouterr().out.startswith(promised.group(1))


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("posthog-driver ")])
def test_each_command_runs(line: str, posthog: LocalPostHog, tmp_path: Path) -> None:
    import shlex

    command = [sys.executable, "-m", "posthog_driver", *shlex.split(line)[1:]]
    done = subprocess.run(command, env=environment(posthog), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make ")])
def test_each_make_target_exists(line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_environment_table_is_what_the_config_reads() -> None:
    from posthog_driver.config import _ENVIRONMENT

    named = set(re.findall(r"^\| `(POSTHOG_\w+)` \|", README, re.MULTILINE))
    assert named <= {variable for variable, _ in _ENVIRONMENT.values()}
