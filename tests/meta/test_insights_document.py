"""docs/insights.md is true: its snippets run, and the rows are those of its table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posthog_driver import PostHogClient
from posthog_driver.local import LocalPostHog
from posthog_driver.results import QueryResult

TEXT = (Path(__file__).parents[2] / "docs" / "insights.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROWS = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", TEXT, re.MULTILINE))
SHORT: dict[str, Callable[[PostHogClient], QueryResult]] = {
    "trends": lambda client: client.trends("$pageview"),
    "funnel": lambda client: client.funnel(["$pageview", "signed_up"]),
    "retention": lambda client: client.retention("$pageview"),
    "lifecycle": lambda client: client.lifecycle("$pageview"),
    "stickiness": lambda client: client.stickiness("$pageview"),
    "paths": lambda client: client.paths(),
}
LONG: dict[str, Callable[[PostHogClient], QueryResult]] = {
    "trends": lambda client: client.trends("$pageview", by="$browser", compare=True),
    "funnel": lambda client: client.funnel(["$pageview", "signed_up"], by="$browser"),
    "retention": lambda client: client.retention("$pageview", by="$browser"),
}


@pytest.fixture
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_each_snippet_runs_and_says_something(
    number: int, local_posthog: LocalPostHog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", local_posthog.personal_api_key)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", str(local_posthog.project_id))
    monkeypatch.setenv("POSTHOG_API_URL", local_posthog.url)
    exec(compile(SNIPPETS[number], f"docs/insights.md, snippet {number + 1}", "exec"), {"__name__": "document"})
    assert capsys.readouterr().out.strip()


def test_the_table_has_every_question() -> None:
    assert set(ROWS) == set(SHORT)


@pytest.mark.parametrize("name", sorted(SHORT))
def test_the_table_names_the_columns_of_the_rows_and_brackets_those_to_be_asked_for(
    name: str, client: PostHogClient
) -> None:
    cells = ROWS[name].split(", ")
    for ask, wanted in ((SHORT[name], [cell for cell in cells if not cell.startswith("(")]), (LONG.get(name), cells)):
        if ask is not None:
            result = ask(client)
            assert result.columns == [cell.strip("(`)") for cell in wanted]
            assert all(list(row) == result.columns for row in result)
            assert result
