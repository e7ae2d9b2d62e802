"""The pytest plugin: an embedded PostHog for your tests, with a fresh project for each of them.

It is loaded in every run of pytest where this package is installed, so it imports nothing until a fixture is used::

    def test_my_report(posthog_client):
        posthog_client.capture_event("signed up", "user 1")
        assert my_report(posthog_client) == {"signed up": 1}

The server is started once in a run, when the first test asks for it (about a second). ``--posthog-events 10000``, or
``posthog_events = 10000`` in the configuration, gives its first project demo data; the projects of the tests are
empty. It needs ``pip install "posthog-driver[local]"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from posthog_driver import PostHogClient
    from posthog_driver.local import LocalPostHog, LocalProject

__all__ = ["posthog_client", "posthog_local", "posthog_project"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    text = "demo events in the first project of the embedded PostHog (default: 0)"
    parser.getgroup("posthog").addoption("--posthog-events", type=int, default=None, metavar="N", help=text)
    parser.addini("posthog_events", text, default="0")


@pytest.fixture(scope="session")
def posthog_local(pytestconfig: pytest.Config) -> Iterator[LocalPostHog]:
    """The embedded PostHog of this run."""
    from posthog_driver.local import LocalPostHog

    given = pytestconfig.getoption("--posthog-events")
    events = pytestconfig.getini("posthog_events") if given is None else given
    try:
        count = int(events)
    except ValueError:
        raise pytest.UsageError(f"posthog_events must be a whole number, not {events!r}") from None
    with LocalPostHog(events=count) as local:
        yield local


@pytest.fixture
def posthog_project(posthog_local: LocalPostHog, request: pytest.FixtureRequest) -> Iterator[LocalProject]:
    """An empty project that nothing else uses; it is removed after the test."""
    project = posthog_local.new_project(name=request.node.name[:200])
    yield project
    posthog_local.drop_project(project)


@pytest.fixture
def posthog_client(posthog_project: LocalProject) -> Iterator[PostHogClient]:
    """A client of the test's own project; it is closed after the test."""
    with posthog_project.client() as client:
        yield client
