"""What the tests of real clients share; ``make clients`` runs them, once for each generation of the packages."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import pytest

from posthog_driver.local import LocalPostHog
from posthog_driver.tools import Toolkit
from tests.clients.world import QUESTIONS, Door, Memory, plain

CLIENTS = ("anthropic", "mcp", "claude-agent-sdk", "langchain-core")


def pytest_report_header() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in CLIENTS)


@pytest.fixture
def door(local_posthog: LocalPostHog) -> Iterator[Door]:
    door = Door(local_posthog)
    with door.server:
        yield door


@pytest.fixture
def settings(door: Door, local_posthog: LocalPostHog) -> dict[str, str]:
    """The environment of a program that asks the embedded PostHog through the door."""
    return {
        "POSTHOG_API_URL": door.server.url,
        "POSTHOG_PROJECT_ID": str(local_posthog.project_id),
        "POSTHOG_PERSONAL_API_KEY": local_posthog.personal_api_key,
    }


@pytest.fixture
def toolkit(door: Door, local_posthog: LocalPostHog) -> Iterator[Memory]:
    with local_posthog.client(api_url=door.server.url) as client, Memory(client) as toolkit:
        yield toolkit


@pytest.fixture(scope="session")
def expected(local_posthog: LocalPostHog) -> list[str]:
    """What each client must see: the toolkit's own answers, once PostHog has them in its cache."""
    for _ in range(2):
        with local_posthog.client() as client, Toolkit(client) as toolkit:
            texts = [plain(toolkit.dispatch(name, arguments).text) for name, arguments in QUESTIONS]
    return texts


@pytest.fixture
def key(local_posthog: LocalPostHog) -> str:
    return local_posthog.personal_api_key
