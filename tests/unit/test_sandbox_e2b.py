"""The parts of the E2B back end that need no E2B: plans of delivery, and errors of the package by their names."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from posthog_driver.sandbox import (
    SandboxAuthError,
    SandboxConfigError,
    SandboxError,
    SandboxLimits,
    SandboxLostError,
    SandboxRateLimitError,
    SandboxRunError,
    SandboxTimeoutError,
    SandboxUnavailableError,
)
from posthog_driver.sandbox.bundle import package_zip
from posthog_driver.sandbox.e2b_delivery import plan
from posthog_driver.sandbox.e2b_errors import RUNNING, E2BNotInstalledError, attempt, made_nothing, translate
from posthog_driver.sandbox.e2b_run import files_of
from posthog_driver.sandbox.model import SandboxJob, Target

KEY = "phx_test_key"
TARGET = Target("https://us.posthog.com", "1", KEY)


# --- delivery -------------------------------------------------------------------------------------------------------


def test_egress_puts_the_key_into_the_rule_of_the_host_alone() -> None:
    delivery = plan("egress", TARGET)
    network = delivery.options["network"]
    header = {"Authorization": f"Bearer {KEY}"}
    assert network["rules"] == {"us.posthog.com": [{"transform": {"headers": header}}]}
    assert (network["allow_out"], network["deny_out"]) == (["us.posthog.com"], ["0.0.0.0/0"])
    assert KEY not in str(delivery.options["envs"])
    assert KEY not in repr(delivery)


def test_a_stored_secret_leaves_the_key_out() -> None:
    delivery = plan("egress", TARGET, "posthog")
    assert KEY not in str(delivery.options)
    assert "Bearer ${e2b.secrets.posthog}" in str(delivery.options["network"]["rules"])


def test_the_broker_leaves_no_network_and_no_key() -> None:
    delivery = plan("broker", TARGET)
    assert delivery.options["allow_internet_access"] is False
    assert delivery.options["network"] == {"deny_out": ["0.0.0.0/0"], "allow_public_traffic": False}
    assert not delivery.direct
    assert plan("broker", None).target is None


def test_env_hands_the_key_over() -> None:
    delivery = plan("env", TARGET)
    assert delivery.options["envs"]["POSTHOG_PERSONAL_API_KEY"] == KEY
    assert "rules" not in delivery.options["network"]


@pytest.mark.parametrize("secret", ["egress", "env"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://us.posthog.com", "over HTTPS on port 443"),
        ("https://us.posthog.com:8443", "over HTTPS on port 443"),
        ("https://127.0.0.1", "not the address 127.0.0.1"),
        ("https://[::1]", "not the address ::1"),
    ],
)
def test_hosts_that_a_sandbox_cannot_reach_safely_are_refused(secret: Any, url: str, problem: str) -> None:
    with pytest.raises(SandboxConfigError, match=problem):
        plan(secret, Target(url, "1", KEY))


@pytest.mark.parametrize("secret", ["egress", "env"])
def test_a_sandbox_that_asks_by_itself_needs_a_project_and_a_key_that_may_query(secret: Any) -> None:
    with pytest.raises(SandboxConfigError, match="which project"):
        plan(secret, None)
    with pytest.raises(SandboxConfigError, match="personal API key"):
        plan(secret, Target("https://us.posthog.com", "1", "phc_test"))


def test_a_key_that_fits_in_no_header_is_refused() -> None:
    with pytest.raises(SandboxConfigError, match="2,048") as caught:
        plan("egress", Target("https://us.posthog.com", "1", "x" * 2_048))
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("name", ["a}b", "{a", "a\nb", "a\x7f", "x" * 257])
def test_a_name_that_is_no_secrets_name_is_refused(name: str) -> None:
    with pytest.raises(SandboxConfigError, match="without braces"):
        plan("egress", TARGET, name)


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_package_goes_along_only_where_the_sandbox_asks_by_itself() -> None:
    job = SandboxJob("query", "SELECT 1", target=TARGET)
    limits = SandboxLimits(memory_bytes=100 << 20)
    asking, told = files_of(job, limits, direct=True), files_of(job, limits, direct=False)
    assert asking["posthog_driver.zip"] == package_zip()
    assert set(told) == {"request.json", "runner.py", "memory"}
    assert told["memory"] == b"102400\n"
    assert not any(KEY.encode() in content for content in asking.values())


# --- errors -----------------------------------------------------------------------------------------------------------


def error_named(name: str, module: str = "e2b.exceptions", *bases: type[BaseException], **facts: Any) -> BaseException:
    """Make an error of a class of that name, as a package that is not installed here would."""
    kind = type(name, bases or (Exception,), {"__module__": module, **facts})
    error = kind("said")
    assert isinstance(error, BaseException)
    return error


def timeout_named(name: str) -> BaseException:
    return error_named(name, "e2b.exceptions", type("TimeoutException", (Exception,), {"__module__": "e2b.exceptions"}))


ERRORS: list[tuple[BaseException, type[SandboxError]]] = [
    (error_named("AuthenticationException"), SandboxAuthError),
    (error_named("RateLimitException", status_code=429), SandboxRateLimitError),
    (error_named("ServiceBusyException", status_code=503), SandboxUnavailableError),
    (error_named("SandboxException", status_code=500), SandboxUnavailableError),
    (error_named("SandboxException", status_code=400), SandboxConfigError),
    (error_named("SandboxException", status_code=404), SandboxConfigError),
    (error_named("SandboxException"), SandboxRunError),
    (error_named("InvalidArgumentException"), SandboxConfigError),
    (error_named("TemplateException"), SandboxConfigError),
    (error_named("BuildException"), SandboxConfigError),
    (error_named("NotEnoughSpaceException"), SandboxRunError),
    (error_named("CommandExitException", "e2b.sandbox.commands.command_handle", exit_code=1), SandboxRunError),
    (error_named("FileNotFoundException"), SandboxRunError),
    (error_named("SandboxNotFoundException"), SandboxLostError),
    (timeout_named("SandboxNotRunningException"), SandboxLostError),
    (timeout_named("SandboxUnreachableException"), SandboxLostError),
    (timeout_named("AnotherTimeoutException"), SandboxTimeoutError),
    (error_named("RemoteProtocolError", "httpx"), SandboxLostError),
    (error_named("ReadTimeout", "httpx"), SandboxTimeoutError),
    (error_named("ReadError", "pyqwest"), SandboxLostError),
    (error_named("ConnectError", "connectrpc.errors"), SandboxLostError),
    (error_named("ReadError", "httpcore._exceptions"), SandboxLostError),
    (ConnectionResetError("said"), SandboxLostError),
    (TimeoutError("said"), SandboxTimeoutError),
    (Exception("said"), SandboxRunError),
    (ValueError("said"), SandboxRunError),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda value: getattr(value, "__name__", type(value).__name__))
def test_each_error_of_the_package_has_its_class(error: BaseException, kind: type[SandboxError]) -> None:
    problem = translate(error, "trying")
    assert type(problem) is kind
    assert str(problem).startswith("While trying, ")
    assert type(error).__name__ in str(problem)


def test_an_error_is_told_in_one_line_of_bounded_length_and_without_keys() -> None:
    problem = translate(ValueError(f"Bearer {KEY}\n\n  and e2b_test_key " + "long " * 1_000), "trying")
    assert "\n" not in str(problem)
    assert len(str(problem)) < 1_200
    assert KEY not in str(problem)
    assert "e2b_test_key" not in str(problem)


def test_an_error_without_words_is_told_all_the_same() -> None:
    assert str(translate(TimeoutError(), "trying")) == "While trying, it took too long."


@pytest.mark.parametrize(("code", "hint"), [(127, "has no python3"), (126, "cannot be run"), (137, "want of memory")])
def test_exit_codes_with_a_usual_reason_are_explained(code: int, hint: str) -> None:
    error = error_named("CommandExitException", "e2b.sandbox.commands.command_handle", exit_code=code)
    assert hint in str(translate(error, RUNNING))


def test_a_slow_run_is_told_apart_from_a_slow_service() -> None:
    assert "CPU or memory" in str(translate(TimeoutError(), RUNNING))
    assert "CPU or memory" not in str(translate(TimeoutError(), "creating a sandbox"))


def test_the_cause_of_an_error_is_not_attached() -> None:
    def fail() -> None:
        raise OSError(KEY)

    with pytest.raises(SandboxLostError) as caught:
        attempt("trying", fail)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_errors_of_ours_and_interrupts_pass_as_they_are() -> None:
    def fail(error: BaseException) -> None:
        raise error

    for error in (SandboxLostError("gone"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            attempt("trying", fail, error)
        assert caught.value is error
    assert attempt("trying", int, "7", base=8) == 7


@pytest.mark.parametrize(
    ("error", "nothing"),
    [
        (error_named("AuthenticationException"), True),
        (error_named("RateLimitException"), True),
        (error_named("SandboxException", status_code=400), True),
        (error_named("ConnectError", "httpx"), True),
        (error_named("RemoteProtocolError", "httpx"), False),
        (error_named("ReadTimeout", "httpx"), False),
        (error_named("SandboxException", status_code=500), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_is_known_which_failures_cannot_have_made_a_sandbox(error: BaseException, nothing: bool) -> None:
    assert made_nothing(translate(error, "creating a sandbox")) is nothing


def test_an_error_keeps_its_facts_when_pickled() -> None:
    problem = translate(error_named("SandboxException", status_code=500), "trying")
    again = pickle.loads(pickle.dumps(problem))
    assert (str(again), again.status) == (str(problem), 500)
    missing = pickle.loads(pickle.dumps(E2BNotInstalledError("no e2b")))
    assert str(missing) == "no e2b"
