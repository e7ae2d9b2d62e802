"""Settings: where they come from, what is refused and how it is said, and that no key is ever shown."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.config import DEFAULT_API_URL, DriverConfig, PostHogConfig, check_seconds, ingestion_url
from posthog_driver.exceptions import AuthenticationError, ConfigurationError, ValidationError

KEY = "phx_test_key"
TOKEN = "phc_test_token"


def config(**changes: Any) -> PostHogConfig:
    return PostHogConfig(**{"api_key": KEY, "project_id": "1", **changes})


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        config(**changes)
    return str(caught.value)


class TestDefaults:
    def test_a_key_and_a_project_are_enough(self) -> None:
        made = config()
        assert (made.api_key, made.project_id, made.project_api_key) == (KEY, "1", None)
        assert (made.api_url, made.capture_url) == (DEFAULT_API_URL, "https://us.i.posthog.com")
        assert (made.timeout, made.total_timeout, made.max_retries) == (30, 300, 3)
        assert (made.rate_limit_per_minute, made.rate_limit_per_hour, made.max_concurrent) == (240, 2400, 3)
        assert made.log_level == "INFO"

    def test_the_other_name_is_the_same_class(self) -> None:
        assert DriverConfig is PostHogConfig

    def test_a_valid_config_has_nothing_to_validate(self) -> None:
        made = config()
        before = repr(made)
        made.validate()
        assert repr(made) == before


class TestKeys:
    @pytest.mark.parametrize("key", ["k", "1", "phx_test_key", "a/b+c=", "!" * 300])
    def test_any_printable_text_is_a_key(self, key: str) -> None:
        assert config(api_key=key).api_key == key

    @pytest.mark.parametrize("raw", [f"{KEY}\n", f" {KEY}\r\n", f"\t{KEY} "])
    def test_white_space_around_a_key_is_stripped(self, raw: str) -> None:
        assert config(api_key=raw, project_api_key=raw).api_key == KEY
        assert config(api_key=raw, project_api_key=raw).project_api_key == KEY

    @pytest.mark.parametrize("inner", [" ", "\n", "\t", "\0", "\x7f", "\u00e9", "\u200b", "\ud800"])
    @pytest.mark.parametrize("field", ["api_key", "project_api_key"])
    def test_a_key_with_odd_characters_is_refused_without_being_shown(self, field: str, inner: str) -> None:
        said = refusal(**{field: f"phx_{inner}test"})
        assert said.startswith(f"{field} holds")
        assert "phx_" not in said
        assert "test" not in said

    @pytest.mark.parametrize("value", [b"phx_test_key", 7, ["phx_test_key"]])
    def test_a_key_that_is_no_text_is_refused_without_being_shown(self, value: object) -> None:
        said = refusal(api_key=value)
        assert said == f"api_key must be text, not {type(value).__name__}"

    @pytest.mark.parametrize("value", ["", "   ", "\n", None])
    def test_no_key_is_an_authentication_error_that_names_the_variable(self, value: str | None) -> None:
        with pytest.raises(AuthenticationError, match="POSTHOG_PERSONAL_API_KEY"):
            config(api_key=value)

    @pytest.mark.parametrize("value", ["", "  ", None])
    def test_a_blank_project_token_is_none(self, value: str | None) -> None:
        assert config(project_api_key=value).project_api_key is None


class TestProject:
    @pytest.mark.parametrize(
        ("value", "kept"), [(1, "1"), ("1", "1"), ("007", "007"), (" 42\n", "42"), ("@current", "@current"), (0, "0")]
    )
    def test_it_is_a_number_or_the_current_one_and_kept_as_text(self, value: str | int, kept: str) -> None:
        assert config(project_id=value).project_id == kept

    @pytest.mark.parametrize(
        "value", ["1/2", "../1", "1?x", "abc", "@other", "-1", -1, "1.0", 1.5, True, "\u0663", "9" * 20, b"1"]
    )
    def test_anything_that_is_no_single_path_segment_is_refused(self, value: object) -> None:
        assert "project_id must be a whole number" in refusal(project_id=value)

    def test_a_number_too_long_to_print_is_refused_too(self) -> None:
        assert "not this int" in refusal(project_id=10**5000)

    @pytest.mark.parametrize("value", ["", "  ", None])
    def test_no_project_is_a_configuration_error_that_names_the_variable(self, value: str | None) -> None:
        assert "POSTHOG_PROJECT_ID" in refusal(project_id=value)

    @pytest.mark.parametrize("value", [KEY, f" {KEY}", "PHX_TEST_KEY", "q" * 30, ["phx_test_key"], b"phx_test_key"])
    def test_a_key_in_the_place_of_the_project_is_not_shown(self, value: object) -> None:
        said = refusal(project_id=value)
        assert "it is not shown" in said
        assert "test" not in said.lower()
        assert "qqq" not in said


class TestUrls:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("https://eu.posthog.com/", "https://eu.posthog.com"),
            (" http://127.0.0.1:8000\n", "http://127.0.0.1:8000"),
            ("https://proxy.example/posthog/", "https://proxy.example/posthog"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ],
    )
    def test_a_url_is_kept_without_its_trailing_slash(self, given: str, kept: str) -> None:
        assert config(api_url=given).api_url == kept

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("", "must be a URL"),
            (None, "must be a URL"),
            (b"https://x.example", "must be a URL"),
            ("us.posthog.com", "a bare name"),
            ("ftp://x.example", "ftp://"),
            ("file:///etc/hosts", "file://"),
            ("https://", "no host"),
            ("https://x.example:port", "cannot be read"),
            ("https://x.example:99999", "cannot be read"),
            ("https://[::1", "cannot be read"),
            ("https://me:pass@x.example", "user name or password"),
            ("https://me@x.example", "user name or password"),
            ("https://x.example?a=1", "query or a fragment"),
            ("https://x.example/?", "query or a fragment"),
            ("https://x.example/#a", "query or a fragment"),
            ("https://x .example", "white space"),
            ("https://x.example\\@y.example", "backslash"),
            ("https://\u00e9.example", "non-ASCII"),
            ("https://x.example/\0", "control"),
        ],
    )
    @pytest.mark.parametrize("field", ["api_url", "capture_url"])
    def test_what_is_no_base_url_is_refused(self, field: str, url: Any, why: str) -> None:
        if field == "capture_url" and not url:
            assert config(capture_url=url).capture_url == "https://us.i.posthog.com"
        else:
            assert refusal(**{field: url}).startswith(f"{field} ")
            assert why in refusal(**{field: url})

    @pytest.mark.parametrize("url", ["https://me:phx_test_key@x.example", "https://phx_test_key:phx_test_key/"])
    def test_a_secret_in_a_url_is_not_shown(self, url: str) -> None:
        assert "phx" not in refusal(api_url=url)

    @pytest.mark.parametrize(
        ("app", "ingestion"),
        [
            ("https://us.posthog.com", "https://us.i.posthog.com"),
            ("https://app.posthog.com", "https://us.i.posthog.com"),
            ("https://eu.posthog.com", "https://eu.i.posthog.com"),
            ("https://EU.posthog.com:443", "https://eu.i.posthog.com"),
            ("https://us.posthog.com:8443", "https://us.posthog.com:8443"),
            ("https://us.posthog.com.evil.example", "https://us.posthog.com.evil.example"),
            ("https://proxy.example/us.posthog.com", "https://proxy.example/us.posthog.com"),
            ("http://localhost:8000", "http://localhost:8000"),
        ],
    )
    def test_only_the_three_known_hosts_have_another_ingestion_host(self, app: str, ingestion: str) -> None:
        assert ingestion_url(app) == ingestion
        assert config(api_url=app).capture_url == ingestion

    def test_a_given_ingestion_host_wins(self) -> None:
        assert config(capture_url="https://x.example/").capture_url == "https://x.example"


class TestNumbers:
    @pytest.mark.parametrize("field", ["timeout", "total_timeout"])
    @pytest.mark.parametrize("value", [0, -1, 10**40, 1_000_001, float("inf"), float("nan"), True, "30", None])
    def test_seconds_are_positive_and_of_a_size_the_system_can_wait(self, field: str, value: object) -> None:
        assert refusal(**{field: value}).startswith(f"{field} must be a positive number of seconds")

    @pytest.mark.parametrize("value", [0.001, 1, 2.5, 1_000_000])
    def test_other_seconds_are_kept(self, value: float) -> None:
        assert config(timeout=value, total_timeout=value).timeout == value

    @pytest.mark.parametrize("value", [0, -1, float("nan"), 1e10, True, "30", None])
    def test_the_seconds_of_one_call_hold_to_the_same_rule(self, value: object) -> None:
        check_seconds("timeout", 2.5)
        with pytest.raises(ValidationError, match=r"^timeout must be a positive number.*Nothing was sent\.$"):
            check_seconds("timeout", value)

    @pytest.mark.parametrize("value", [-1, 1.0, True, "3", None])
    def test_tries_are_whole(self, value: object) -> None:
        assert "max_retries must be a whole number of at least 0" in refusal(max_retries=value)

    @pytest.mark.parametrize("field", ["rate_limit_per_minute", "rate_limit_per_hour", "max_concurrent"])
    def test_a_limit_is_none_or_at_least_one(self, field: str) -> None:
        assert getattr(config(**{field: None}), field) is None
        assert getattr(config(**{field: 1}), field) == 1
        for wrong in (0, -5, 2.0, False, "10"):
            assert f"{field} must be a whole number of at least 1" in refusal(**{field: wrong})

    def test_a_level_is_one_of_five_whatever_its_case(self) -> None:
        assert config(log_level=" debug ").log_level == "DEBUG"
        assert "log_level must be one of DEBUG, INFO" in refusal(log_level="LOUD")
        assert "not 10" in refusal(log_level=10)


class TestProblems:
    def test_every_problem_is_named_at_once(self) -> None:
        said = refusal(project_id="x", project_api_key="a b", api_url="x", capture_url="y", timeout=0, max_retries=-1)
        for name in ("project_id", "project_api_key", "api_url", "capture_url", "timeout", "max_retries"):
            assert name in said
        assert said.count("; ") == 5

    def test_a_missing_key_does_not_hide_the_other_problems(self) -> None:
        with pytest.raises(AuthenticationError, match=r"POSTHOG_PERSONAL_API_KEY.*; no project.*POSTHOG_PROJECT_ID"):
            PostHogConfig(api_key="", project_id="")

    def test_a_bad_key_is_no_missing_key(self) -> None:
        assert "no API key" not in refusal(api_key="a b", timeout=0)

    def test_a_configuration_error_is_also_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="timeout"):
            config(timeout=0)
        assert issubclass(ConfigurationError, ValidationError)


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.fixture
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", f"{KEY}\n")
        monkeypatch.setenv("POSTHOG_PROJECT_ID", "7")

    def test_every_variable_is_read(self, monkeypatch: pytest.MonkeyPatch, keys: None) -> None:
        for name, value in {
            "PROJECT_API_KEY": TOKEN,
            "API_URL": "https://eu.posthog.com/",
            "CAPTURE_URL": "https://x.example",
            "TIMEOUT": "2.5",
            "MAX_RETRIES": "5",
            "LOG_LEVEL": "debug",
        }.items():
            monkeypatch.setenv(f"POSTHOG_{name}", value)
        assert PostHogConfig.from_env() == PostHogConfig(
            KEY, "7", TOKEN, "https://eu.posthog.com", "https://x.example", 2.5, max_retries=5, log_level="DEBUG"
        )

    def test_an_argument_wins_over_a_variable_and_none_does_not(
        self, monkeypatch: pytest.MonkeyPatch, keys: None
    ) -> None:
        monkeypatch.setenv("POSTHOG_TIMEOUT", "not read")
        made = PostHogConfig.from_env(overrides={"project_id": 8, "api_key": None, "timeout": 3, "max_concurrent": 1})
        assert (made.project_id, made.api_key, made.timeout, made.max_concurrent) == ("8", KEY, 3, 1)

    def test_an_empty_variable_is_no_value(self, monkeypatch: pytest.MonkeyPatch, keys: None) -> None:
        monkeypatch.setenv("POSTHOG_TIMEOUT", "  ")
        monkeypatch.setenv("POSTHOG_API_URL", "")
        assert PostHogConfig.from_env() == config(project_id="7")

    def test_nothing_set_names_both_variables(self) -> None:
        with pytest.raises(AuthenticationError, match=r"POSTHOG_PERSONAL_API_KEY.*POSTHOG_PROJECT_ID"):
            PostHogConfig.from_env()

    def test_an_unreadable_variable_is_named_beside_every_other_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTHOG_TIMEOUT", "soon")
        monkeypatch.setenv("POSTHOG_MAX_RETRIES", "2.5")
        monkeypatch.setenv("POSTHOG_LOG_LEVEL", "loud")
        with pytest.raises(AuthenticationError) as caught:
            PostHogConfig.from_env()
        for part in (
            "POSTHOG_TIMEOUT must be a number of seconds, not 'soon'",
            "POSTHOG_MAX_RETRIES must be a whole number, not '2.5'",
            "log_level must be",
            "POSTHOG_PERSONAL_API_KEY",
            "POSTHOG_PROJECT_ID",
        ):
            assert part in str(caught.value)

    def test_unreadable_variables_alone_are_a_configuration_error_without_keys(
        self, monkeypatch: pytest.MonkeyPatch, keys: None
    ) -> None:
        monkeypatch.setenv("POSTHOG_TIMEOUT", KEY)
        with pytest.raises(ConfigurationError) as caught:
            PostHogConfig.from_env()
        assert str(caught.value) == "POSTHOG_TIMEOUT must be a number of seconds, not this str (it is not shown)"

    def test_the_dotenv_file_is_read_on_request_only_and_real_variables_win(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = f"\ufeffPOSTHOG_PERSONAL_API_KEY={KEY}\nPOSTHOG_PROJECT_ID=7\nPOSTHOG_TIMEOUT\n"
        (folder / ".env").write_text(text, encoding="utf-8")
        monkeypatch.setenv("POSTHOG_PROJECT_ID", "8")
        assert PostHogConfig.from_env(dotenv=True) == config(project_id="8")
        with pytest.raises(AuthenticationError):
            PostHogConfig.from_env()

    def test_no_dotenv_file_is_fine(self, keys: None) -> None:
        assert PostHogConfig.from_env(dotenv=True).project_id == "7"

    def test_a_dotenv_file_in_another_encoding_is_an_error_that_holds_nothing_of_it(
        self, folder: Path, keys: None
    ) -> None:
        (folder / ".env").write_bytes(b"POSTHOG_PERSONAL_API_KEY=phx_test_key\nNAME=\xe9\n")
        with pytest.raises(ConfigurationError, match=r"\.env cannot be read .*UnicodeDecodeError") as caught:
            PostHogConfig.from_env(dotenv=True)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert KEY not in str(caught.value)


class TestValue:
    def test_it_is_frozen(self) -> None:
        made = config()
        with pytest.raises(AttributeError, match=r"replace.*'timeout'"):
            made.timeout = 5
        with pytest.raises(AttributeError, match="frozen"):
            del made.timeout
        assert made.timeout == 30

    def test_repr_hides_both_keys(self) -> None:
        shown = repr(config(project_api_key=TOKEN))
        assert KEY not in shown
        assert TOKEN not in shown
        assert "api_key='<hidden>'" in shown
        assert "project_id='1'" in shown
        assert "project_api_key=None" in repr(config())

    def test_equal_settings_are_equal_and_hash_alike(self) -> None:
        assert config() == config()
        assert hash(config()) == hash(config())
        assert config() != config(timeout=31)
        assert config() != "a config"

    def test_copies_and_pickles_are_equal_and_still_frozen(self) -> None:
        made = config(project_api_key=TOKEN, capture_url="https://x.example", max_concurrent=None)
        for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert again == made
            with pytest.raises(AttributeError):
                again.timeout = 1

    def test_replace_changes_what_is_given_and_checks_it(self) -> None:
        made = config(max_concurrent=None)
        changed = made.replace({"timeout": 5, "api_key": None})
        assert (changed.timeout, changed.api_key, changed.max_concurrent) == (5, KEY, None)
        assert made.timeout == 30
        with pytest.raises(ConfigurationError, match="timeout"):
            made.replace({"timeout": -1})

    def test_a_derived_ingestion_host_follows_and_a_given_one_stays(self) -> None:
        eu = {"api_url": "https://eu.posthog.com"}
        assert config().replace(eu).capture_url == "https://eu.i.posthog.com"
        assert pickle.loads(pickle.dumps(config())).replace(eu).capture_url == "https://eu.i.posthog.com"
        assert config(capture_url="https://x.example").replace(eu).capture_url == "https://x.example"
