"""What every test shares: the package's own fixtures, clients to try them on, and a silent environment."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from posthog_driver.exceptions import PostHogError

if TYPE_CHECKING:
    from posthog_driver import PostHogClient
    from posthog_driver._clock import Clock
    from posthog_driver.testing import FakeClock, FaultServer

pytest_plugins = ["posthog_driver.testing"]

# Timings of a busy machine are no property of the code.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")

# A shell ignores Ctrl-C for what it starts in the background, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

KEY = "phx_test_key"


@pytest.fixture(scope="session", autouse=True)
def silent_environment() -> Iterator[None]:
    """Settings, proxies and netrc files of whoever runs the tests change nothing."""
    foreign = {"NETRC", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper() in foreign or (name.startswith("POSTHOG_") and name != "POSTHOG_QUERY_SCHEMA"):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def same_logger() -> Iterator[None]:
    """What a test configures of the package's logging ends with the test."""
    package = logging.getLogger("posthog_driver")
    handlers, level, propagate = list(package.handlers), package.level, package.propagate
    yield
    package.handlers[:], package.propagate = handlers, propagate
    package.setLevel(level)


@pytest.fixture
def connect(
    fault_server: FaultServer, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., PostHogClient]]:
    """Make clients of the fault server whose waits take no time; no record they log may show their key."""
    from posthog_driver import PostHogClient, PostHogConfig

    caplog.set_level(logging.DEBUG, "posthog_driver")
    with contextlib.ExitStack() as stack:

        def make(*, clock: Clock = fake_clock, **options: Any) -> PostHogClient:
            usual = {
                "api_key": KEY,
                "project_id": "1",
                "project_api_key": "phc_test",
                "api_url": fault_server.url,
                "timeout": 20.0,
            }
            config = PostHogConfig(**{**usual, **options})
            return stack.enter_context(PostHogClient(config, clock=clock))

        yield make
    assert KEY not in caplog.text


@pytest.fixture
def fails() -> Callable[..., contextlib.AbstractContextManager[pytest.ExceptionInfo[PostHogError]]]:
    """Expect an error of ours: of that class, of readable length, the key neither in it nor in its causes."""

    @contextlib.contextmanager
    def expect(
        kind: type[PostHogError] = PostHogError, match: str | None = None
    ) -> Iterator[pytest.ExceptionInfo[PostHogError]]:
        with pytest.raises(kind, match=match) as caught:
            yield caught
        assert len(str(caught.value)) <= 5_000
        error: BaseException | None = caught.value
        while error is not None:
            assert KEY not in f"{error} {error!r} {error.args} {vars(error)}"
            error = error.__cause__ or error.__context__

    return expect
