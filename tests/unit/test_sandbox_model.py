"""The values of a sandbox, and its errors: what they check, carry, and never show."""

from __future__ import annotations

import json
import pickle

import pytest

from posthog_driver import sandbox
from posthog_driver.exceptions import ConfigurationError, PostHogError
from posthog_driver.sandbox import errors
from posthog_driver.sandbox.errors import SandboxConfigError, SandboxError
from posthog_driver.sandbox.model import PythonOutput, SandboxJob, SandboxLimits, Target

TARGET = Target("https://us.posthog.com", "1", "phx_test_key")


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_of_a_sandbox_is_one_of_the_drivers_and_can_be_pickled(name: str) -> None:
    error = getattr(errors, name)("what happened", detail="the end of stderr", attempts=2)
    assert isinstance(error, PostHogError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_what_cannot_be_had_is_a_matter_of_configuration() -> None:
    assert issubclass(SandboxConfigError, ConfigurationError)
    assert issubclass(SandboxConfigError, SandboxError)


@pytest.mark.parametrize("name", sandbox.__all__)
def test_every_public_name_is_found(name: str) -> None:
    assert getattr(sandbox, name) is getattr(sandbox, name)
    assert name in dir(sandbox)


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        sandbox.Nothing  # noqa: B018


def test_all_that_is_wrong_with_limits_is_said_at_once() -> None:
    with pytest.raises(SandboxConfigError) as caught:
        SandboxLimits(run_timeout=0, create_timeout=float("nan"), max_processes=1, memory_bytes=True, max_queries=0)
    said = str(caught.value)
    for name in ("run_timeout", "create_timeout", "max_processes", "memory_bytes", "max_queries"):
        assert name in said


@pytest.mark.parametrize("seconds", ["60", None, True, float("inf"), -1])
def test_a_time_limit_is_a_positive_number(seconds: object) -> None:
    with pytest.raises(SandboxConfigError, match="run_timeout"):
        SandboxLimits(run_timeout=seconds)  # type: ignore[arg-type]


def test_the_lifetime_is_a_little_longer_than_the_run() -> None:
    assert SandboxLimits(run_timeout=10.2).lifetime == 41


def test_a_request_holds_what_the_runner_needs_and_no_key() -> None:
    job = SandboxJob("query", "SELECT {x}\n'", {"x": "\u2028ü"}, TARGET)
    for direct in (False, True):
        request = job.request(SandboxLimits(), direct=direct)
        assert b"\n" not in request
        assert b"phx_test_key" not in request
        told = json.loads(request)
        assert (told["text"], told["values"], told["nonce"]) == (job.text, job.values, job.nonce)
        assert ("direct" in told) is direct
    assert told["direct"]["project_id"] == "1"


def test_nonces_differ() -> None:
    assert SandboxJob("python", "").nonce != SandboxJob("python", "").nonce


def test_asking_directly_needs_a_project() -> None:
    with pytest.raises(SandboxConfigError, match="which project"):
        SandboxJob("query", "SELECT 1").request(SandboxLimits(), direct=True)


def test_what_the_host_has_to_answer_is_never_asked_directly() -> None:
    with pytest.raises(SandboxConfigError, match="broker"):
        SandboxJob("python", "", None, TARGET, host_answers=True).request(SandboxLimits(), direct=True)


def test_neither_key_nor_texts_are_shown() -> None:
    shown = repr(SandboxJob("query", "SELECT 'mine'", {"x": "mine"}, TARGET))
    assert "phx_test_key" not in shown
    assert "mine" not in shown


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (PythonOutput("5\n"), "5"),
        (PythonOutput("5\n", "Warning\n"), "5\nWarning"),
        (PythonOutput("", "Traceback\n", exit_code=1), "Traceback\n(exit code 1)"),
        (PythonOutput("5", truncated=True), "5\n(the start of the output was dropped: print less)"),
    ],
)
def test_an_output_as_text_says_all_there_is_to_say(output: PythonOutput, text: str) -> None:
    assert str(output) == text
