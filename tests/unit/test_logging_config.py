"""logging_config: one line of JSON per record, no secret in it, and a configuration that disturbs nobody."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest

from posthog_driver import logging_config
from posthog_driver.exceptions import ConfigurationError
from posthog_driver.logging_config import (
    RedactingFilter,
    StructuredFormatter,
    TextFormatter,
    carry_context,
    configure_logging,
    correlation_id,
    forget_secret,
    get_correlation_id,
    get_logger,
    mask_api_key,
    redact,
    register_secret,
    set_correlation_id,
)

KEY = "phx_test_key_x"
MASK = "phx_te..._x"
PASSWORD = 'odd "key"\\ with\nü & more'  # no prefix, and everything that somebody escapes


def record(msg: Any = "hello", *args: Any, exc_info: Any = None, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("posthog_driver.test", logging.INFO, __file__, 1, msg, args, exc_info)
    vars(made).update(extra)
    return made


def parse(made: logging.LogRecord) -> dict[str, Any]:
    """Format a record twice, as names of fields are learned, and return what both lines say."""
    formatter = StructuredFormatter()
    before = dict(vars(made))
    first, second = formatter.format(made), formatter.format(made)
    assert vars(made) == before or "hostile" in before
    assert first == second
    assert len(first.splitlines()) == 1
    fields: dict[str, Any] = json.loads(first, parse_constant=pytest.fail)
    return fields


def raised(error: BaseException) -> Any:
    try:
        raise error
    except BaseException:
        return sys.exc_info()


@pytest.fixture
def secret() -> Iterator[str]:
    register_secret(PASSWORD)
    yield PASSWORD
    forget_secret(PASSWORD)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A logger of the test's own, with nothing left behind."""
    own = f"posthog_driver.{request.node.name}"
    yield own
    logger = logging.getLogger(own)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


class Hostile:
    hostile = True

    def __str__(self) -> str:
        raise RuntimeError(KEY)

    __repr__ = __str__


# --- fields -------------------------------------------------------------------------------------------------


def test_a_record_has_time_level_logger_and_message() -> None:
    made = record("sent %d of %s", 3, "four")
    made.created = 1_700_000_000.25
    assert parse(made) == {
        "timestamp": "2023-11-14T22:13:20.250000+00:00",
        "level": "INFO",
        "logger": "posthog_driver.test",
        "message": "sent 3 of four",
    }


def test_timestamps_follow_the_records_and_not_the_cache() -> None:
    formatter = StructuredFormatter()
    for created in (1_700_000_000.999999, 1_700_000_001.0, 1_700_000_000.5, 0.0):
        made = record()
        made.created = created
        said = datetime.fromisoformat(json.loads(formatter.format(made))["timestamp"])
        assert abs(said.timestamp() - created) < 2e-6
        assert said.utcoffset() == timezone.utc.utcoffset(None)


@pytest.mark.parametrize("created", [float("nan"), 1e300, None])
def test_a_record_without_a_usable_time_says_null(created: Any) -> None:
    made = record()
    made.created = created
    line = json.loads(StructuredFormatter().format(made))
    assert (line["timestamp"], line["message"]) == (None, "hello")


def test_extra_fields_keep_their_names_types_and_order() -> None:
    extra = {"status_code": 200, "latency_ms": 1.5, "scope": "query", "cached": True, "query_id": None}
    line = parse(record(**extra))
    assert list(line.items())[4:] == list(extra.items())


def test_extra_fields_survive_another_order_of_attributes() -> None:
    made = record(status_code=200)
    reversed_record = logging.makeLogRecord({})
    vars(reversed_record).clear()
    vars(reversed_record).update(reversed(vars(made).items()))
    vars(reversed_record).update(message="hello", asctime="now")
    assert parse(reversed_record) == parse(made)


def test_an_extra_field_with_a_taken_name_is_kept_under_another() -> None:
    line = parse(record(level=1, level_2=2, timestamp="never"))
    assert (line["level"], line["level_2"], line["level_2_2"], line["timestamp_2"]) == ("INFO", 1, 2, "never")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"b": [1, (2,), {3}], 4: None}, {"b": [1, [2], [3]], "4": None}),
        ({"1": "a", 1: "b"}, {"1": "a", "1_2": "b"}),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"\xff\n", "\\xff\n"),
        (HTTPStatus.OK, 200),
        (datetime(2024, 1, 2), "2024-01-02 00:00:00"),
        (ValueError("x"), "ValueError: x"),
        (Hostile(), "<unprintable Hostile>"),
        ([Hostile()], ["<unprintable Hostile>"]),
        ("a\ud800\U0001f600é", "a\\ud800\U0001f600é"),
        ("x" * 1_000_000, "x" * 1_000_000),
        pytest.param(10**5000, hex(10**5000), id="5001 digits"),
    ],
)
def test_whatever_json_cannot_say_becomes_text(value: Any, said: Any) -> None:
    assert parse(record(value=value, hostile=True))["value"] == said


def test_circular_and_endless_structures_end_in_a_note() -> None:
    circle: list[Any] = []
    circle.append({"again": circle})
    assert parse(record(value=circle))["value"] == [{"again": "<circular>"}]
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert "<nested deeper than 32 levels>" in str(parse(record(value=deep)))
    twice = [1]
    assert parse(record(value=[twice, twice]))["value"] == [[1], [1]]


@pytest.mark.parametrize("args", [("x",), (1, 2), ({"a": 1},)])
def test_arguments_that_do_not_fit_are_named_by_type(args: tuple[Any, ...]) -> None:
    message = parse(record("%d items", *args))["message"]
    assert message.startswith("%d items [arguments of type (")
    assert message.endswith("do not fit: TypeError]")


def test_a_message_that_cannot_be_printed_is_named() -> None:
    assert parse(record(Hostile(), hostile=True))["message"].startswith("<unprintable Hostile>")
    assert "Hostile" in parse(record("%s", Hostile(), hostile=True))["message"]


def test_a_record_that_defies_everything_still_gives_a_line() -> None:
    class Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError

    class Worst(metaclass=Nameless):
        __str__ = __repr__ = Hostile.__str__

    assert "could not be formatted" in parse(record(value=Worst(), hostile=True))["message"]


def test_an_exception_brings_its_traceback_in_one_field() -> None:
    line = parse(record(exc_info=raised(ValueError("two\nlines"))))
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: two\nlines")


def test_exception_texts_come_in_every_form_that_a_record_may_carry() -> None:
    assert "boom" in parse(record(exc_info=raised(ValueError("boom"))[1]))["exception"]
    assert parse(record(exc_text="Traceback: ready"))["exception"] == "Traceback: ready"
    assert "exception" not in parse(record(exc_info=(None, None, None)))
    broken = parse(record(exc_info=(ValueError, "no exception", "no traceback")))
    assert broken["exception"].startswith("<the exception could not be formatted")


def test_an_asked_for_stack_is_a_field() -> None:
    stream = io.StringIO()
    logger = logging.Logger("stack")
    logger.addHandler(logging.StreamHandler(stream))
    logger.handlers[0].setFormatter(StructuredFormatter())
    logger.info("here", stack_info=True)
    assert "test_an_asked_for_stack_is_a_field" in json.loads(stream.getvalue())["stack"]


def test_names_of_fields_are_remembered_only_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging_config, "_MOST_NAMES", len(logging_config._FRAGMENTS))
    line = parse(record(never_seen_before=1))
    assert line["never_seen_before"] == 1
    assert "never_seen_before" not in logging_config._FRAGMENTS


# --- secrets ------------------------------------------------------------------------------------------------


def test_a_masked_key_shows_its_first_six_and_last_two_characters() -> None:
    assert mask_api_key("phx_1234567890") == "phx_12...90"


@pytest.mark.parametrize("length", range(1, 12))
def test_of_a_short_key_at_least_a_third_is_hidden(length: int) -> None:
    key = "phx_abcdefgh"[:length]
    shown = mask_api_key(key).replace("...", "")
    assert key not in mask_api_key(key)
    assert len(shown) <= length * 2 / 3


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_key_has_an_empty_mask_and_nothing_to_register(nothing: str | None) -> None:
    assert mask_api_key(nothing) == ""
    register_secret(nothing)
    forget_secret(nothing)
    assert redact("text") == "text"


HIDDEN = [
    (f"key {KEY}.", f"key {MASK}."),
    ("x%3Dpha_abc1 \\npha_abc1 graphs_" + "a1" * 10, "x%3Dpha_... \\npha_... graphs_a1...a1"),
    ("e2b_test_key and sk-ant-test-key", "e2b_te...ey and sk-ant...ey"),
    ("Bearer k", "Bearer ***"),
    (f"bearer  {KEY}, sent", f"bearer  {MASK}, sent"),
    ("bearer bearer k", "bearer bearer ***"),
    ("q=Bearer%20k&x=1", "q=Bearer%20***&x=1"),
    ("{'Authorization': 'Bearer k', 'x': 1}", "{'Authorization': 'Bearer ***', 'x': 1}"),
    ("(b'Authorization', b'Basic a:b')", "(b'Authorization', b'***')"),
    ("[('x_api_key', 'k'), ('a', 'b')]", "[('x_api_key', '***'), ('a', 'b')]"),
    ('Authorization: Digest name="a", response="b"\nnext', "Authorization: ***\nnext"),
    ("Authorization: Token k and more", "Authorization: Token *** and more"),
    ("Authorization: k and more", "Authorization: ***"),
    ("Set-Cookie: a=b; c=d", "Set-Cookie: ***"),
    ("X-Api-Key: letters\r\nHost: x", "X-Api-Key: ***\r\nHost: x"),
    ('{"api_key": "k", "apiKey":"k\\"x", "a": 1}', '{"api_key": "***", "apiKey":"***", "a": 1}'),
    ('{\\"token\\": \\"k\\\\\\"x\\", \\"a\\": 1}', '{\\"token\\": \\"***\\", \\"a\\": 1}'),
    ('{"secret": "cut off', '{"secret": "***'),
    ("Config(api_key='k', n=1)", "Config(api_key='***', n=1)"),
    ("api_key = 'k'", "api_key = '***'"),
    ("password: hunter2", "password: ***"),
    ("POSTHOG_API_KEY=k other", "POSTHOG_API_KEY=*** other"),
    (
        "u?personal_api_key=k&secret_api_key=l&token=m#n",
        "u?personal_api_key=***&secret_api_key=***&token=***#n",
    ),
    ("u%3Ftoken%3Dk", "u%3Ftoken%3D***"),
    ("https://user:pa@ss@host/?a=b", "https://user:***@host/?a=b"),
]


@pytest.mark.parametrize(("text", "clean"), HIDDEN)
def test_secrets_are_masked_where_secrets_stand(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alpha_users and graphs_daily",
        "e2b_api_key is missing",
        "set POSTHOG_PERSONAL_API_KEY",
        "api_key: must be text",
        "Unrecognized token: Syntax error",
        "api_key=None, token=null, secret=''",
        "missing ['api_key', 'project_id']",
        "https://host:8000/a@b",
        "phx_12...90 and ***",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(("text", "clean"), HIDDEN)
def test_no_part_of_a_record_shows_what_redact_hides(text: str, clean: str) -> None:
    deep = {"a": [{text: text}, text.encode()]}
    line = parse(record("%s", text, text=text, deep=deep, exc_info=raised(ValueError(text))))
    assert line["message"] == line["text"] == clean
    assert line["deep"] == {"a": [{clean: clean}, clean]}
    assert line["exception"].endswith(clean)
    with correlation_id(text):
        assert parse(record())["correlation_id"] == clean


@pytest.mark.parametrize("text", [f"\n{KEY}", "\npha_abc1", "\x0e2b_abcd phx_abc1", f"é\u0e2b_abc {KEY}"])
def test_escapes_of_json_and_keys_do_not_disturb_each_other(text: str) -> None:
    assert parse(record(text))["message"] == redact(text) != text


class Settings(NamedTuple):
    host: str
    api_key: str


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"api_key": "k", b"X-Token": b"k"}, {"api_key": "***", "X-Token": "***"}),
        ({"password": 12345, "secret": ["k"]}, {"password": "***", "secret": "***"}),
        (
            {"has_secret": True, "token": None, "cookie": ""},
            {"has_secret": True, "token": None, "cookie": ""},
        ),
        ({"api_key": KEY, "tokens": 5}, {"api_key": MASK, "tokens": 5}),
        ([("Api-Key", "k"), ("a", "b")], [["Api-Key", "***"], ["a", "b"]]),
        (Settings("h", "k"), {"host": "h", "api_key": "***"}),
    ],
)
def test_a_field_named_like_a_secret_hides_its_value(value: Any, said: Any) -> None:
    assert parse(record(value=value))["value"] == said
    if isinstance(value, dict) and "api_key" in value:
        assert parse(record(api_key=value["api_key"]))["api_key"] == said["api_key"]


def test_the_name_of_a_logger_hides_a_key_too() -> None:
    made = record()
    made.name = f"client.{KEY}"
    assert parse(made)["logger"] == f"client.{MASK}"


def test_a_registered_key_is_masked_however_it_was_escaped(secret: str) -> None:
    escaped = [
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        repr(secret),
        repr(secret.encode()),
        urllib.parse.quote(secret),
        urllib.parse.quote(secret, safe=""),
        urllib.parse.urlencode({"x": secret}),
    ]
    for text in escaped:
        assert "more" not in redact(f"<{text}>")
        line = parse(record(text, x=text, **{text: 1}))
        assert "more" not in json.dumps(line)
        assert 1 in line.values()


def test_a_registered_key_is_masked_until_its_last_holder_forgets_it(secret: str) -> None:
    register_secret(secret)
    forget_secret(secret)
    assert redact(secret) != secret
    forget_secret(secret)
    assert redact(secret) == secret
    forget_secret(secret)
    assert redact(secret) == secret


def test_a_name_seen_before_it_was_registered_is_masked_afterwards() -> None:
    assert "a_field_name" in parse(record(a_field_name=1))
    register_secret("a_field_name")
    try:
        assert "a_field_name" not in json.dumps(parse(record(a_field_name=1)))
    finally:
        forget_secret("a_field_name")


def test_a_very_short_key_is_masked_only_where_keys_stand() -> None:
    register_secret("k")
    try:
        assert redact("like Bearer k, ?api_key=k") == "like Bearer *** ?api_key=***"
    finally:
        forget_secret("k")


@pytest.mark.parametrize("key", ["phx_k", "phx_a.b!", "pha_short", KEY])
def test_a_registered_key_with_a_prefix_is_masked_at_any_length(key: str) -> None:
    register_secret(key)
    try:
        assert key not in redact(f"x{key}x")
    finally:
        forget_secret(key)


@pytest.mark.parametrize(
    "piece",
    [
        "token:",
        "api_key ",
        "bearer ",
        "://a:",
        'secret="',
        "token=",
        "('api_key",
        "\\",
        "a=",
        "phx_",
        "pass: ",
    ],
)
def test_long_hostile_texts_take_no_quadratic_time(piece: str) -> None:
    # Quadratic time would be minutes here; the test session's own limit ends it then.
    assert redact(piece * 50_000)


# --- correlation id -----------------------------------------------------------------------------------------


def test_the_correlation_id_is_on_every_record_of_the_block_and_gone_after_it() -> None:
    with correlation_id("outer"):
        with correlation_id() as made:
            assert parse(record())["correlation_id"] == made
            assert len(made) == 16
        assert parse(record())["correlation_id"] == "outer"
    assert "correlation_id" not in parse(record())


def test_a_needle_sends_a_simple_record_the_careful_way(secret: str) -> None:
    register_secret("plainword")
    try:
        assert parse(record("a plainword, escaped by nobody"))["message"] == "a plai..., escaped by nobody"
    finally:
        forget_secret("plainword")


def test_the_correlation_id_can_be_set_and_taken_away() -> None:
    set_correlation_id("order-1")
    assert parse(record())["correlation_id"] == get_correlation_id() == "order-1"
    set_correlation_id(None)
    assert "correlation_id" not in parse(record())


def test_a_correlation_id_on_the_record_itself_wins() -> None:
    with correlation_id("mine"):
        assert parse(record(correlation_id="its own"))["correlation_id"] == "its own"


def test_the_correlation_id_reaches_a_thread_only_when_it_is_carried() -> None:
    seen: dict[str, str | None] = {}

    def note(place: str, then: str | None = None) -> None:
        seen[place] = get_correlation_id()
        set_correlation_id(then)

    with correlation_id("here"):
        carried = carry_context(note)
        threads = [
            threading.Thread(target=carried, args=("carried",), kwargs={"then": "changed"}),
            threading.Thread(target=carried, args=("carried again",)),
            threading.Thread(target=lambda: threading.Thread(target=note, args=("plain",)).run()),
        ]
        for thread in threads:
            thread.start()
            thread.join(timeout=60)
        assert get_correlation_id() == "here"
    assert seen["carried"] == seen["carried again"] == "here"
    assert carried.__name__ == "note"


def test_one_carried_function_runs_in_many_threads_at_once() -> None:
    barrier = threading.Barrier(4, timeout=60)
    seen: list[str | None] = []

    def meet() -> None:
        barrier.wait()
        seen.append(get_correlation_id())

    with correlation_id("all"):
        carried = carry_context(meet)
    threads = [threading.Thread(target=carried) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert seen == ["all"] * 4


# --- text for people ----------------------------------------------------------------------------------------


def test_text_has_one_line_and_then_the_traceback() -> None:
    made = record("a\nforged line\x1b[0m", attempt=2, scope="query", exc_info=raised(ValueError(KEY)))
    made.created = 0.0
    lines = TextFormatter().format(made).splitlines()
    start = '1970-01-01T00:00:00.000000+00:00 INFO posthog_driver.test a\\nforged line\\x1b[0m attempt=2 scope="query"'
    assert lines[0] == start
    assert lines[1].startswith("Traceback")
    assert lines[-1] == f"ValueError: {MASK}"


# --- the filter for other handlers --------------------------------------------------------------------------


def foreign(made: logging.LogRecord) -> str:
    """Return what somebody else's formatter makes of a record that the filter has seen."""
    assert RedactingFilter().filter(made) is True
    return logging.Formatter("%(message)s").format(made) + repr(vars(made))


def test_the_filter_leaves_harmless_records_alone() -> None:
    made = record("sent %s", "x", exc_info=raised(ValueError("boom")), value=[1], api_key=None)
    before = dict(vars(made))
    RedactingFilter().filter(made)
    assert vars(made) == before


def test_the_filter_hides_secrets_from_foreign_formatters(secret: str) -> None:
    made = record("sent %s", KEY, key=KEY, api_key="kkk", deep={"token": "kkk"}, **{secret: 1})
    made.exc_info = raised(ValueError(KEY))
    made.stack_info = f"stack {KEY}"
    text = foreign(made)
    assert KEY not in text
    assert "kkk" not in text
    assert "more" not in text
    assert made.exc_info is None
    assert "Traceback" in text


def test_the_filter_hides_secrets_in_texts_of_other_formatters() -> None:
    assert KEY not in foreign(record(exc_text=f"Traceback {KEY}"))
    assert KEY not in foreign(record(exc_text=f"Their own {KEY}", exc_info=raised(ValueError("boom"))))


def test_the_filter_makes_broken_records_printable() -> None:
    text = foreign(record("%d", KEY, value=Hostile()))
    assert "do not fit" in text
    assert "<unprintable Hostile>" in text
    assert KEY not in text


# --- configuration ------------------------------------------------------------------------------------------


def test_importing_configures_nothing() -> None:
    code = (
        "import logging, posthog_driver.logging_config\n"
        "ours, root = logging.getLogger('posthog_driver'), logging.getLogger()\n"
        "print([type(h).__name__ for h in ours.handlers], ours.level, ours.propagate, root.handlers, root.level)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert out.stdout.strip() == "['NullHandler'] 0 True [] 30"
    assert out.stderr == ""


def test_configured_logs_are_lines_of_json_on_standard_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logger = configure_logging(logger_name=name)
    get_logger(f"{name}.child").info("hello", extra={"attempt": 1})
    logger.debug("too low")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["attempt"] == 1
    assert captured.out == ""


def test_configuring_twice_changes_the_settings_and_adds_nothing(name: str) -> None:
    first, second = io.StringIO(), io.StringIO()
    own = logging.StreamHandler(io.StringIO())
    for handler in (logging.NullHandler(), own):
        logging.getLogger(name).addHandler(handler)
    configure_logging("WARNING", first, logger_name=name)
    first.close()
    logger = configure_logging("debug", second, json=False, logger_name=name)
    logger.debug("once")
    assert len(logger.handlers) == 2
    assert own in logger.handlers
    assert second.getvalue().count("once") == 1
    assert second.getvalue().startswith("2")


def test_the_default_logger_is_that_of_the_package() -> None:
    logger = logging.getLogger("posthog_driver")
    handlers, level = list(logger.handlers), logger.level
    try:
        assert configure_logging() is logger is get_logger()
        assert logger.level == logging.INFO
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_a_record_is_not_printed_twice_when_a_parent_prints_to_the_same_place(name: str) -> None:
    stream = io.StringIO()
    parent = logging.getLogger(name)
    parent.addHandler(logging.StreamHandler(stream))
    child = configure_logging(stream=stream, logger_name=f"{name}.child.grandchild")
    child.info("once")
    assert stream.getvalue().count("once") == 1
    child.handlers.clear()


def test_records_go_on_to_handlers_that_print_elsewhere(name: str, caplog: pytest.LogCaptureFixture) -> None:
    configure_logging(logger_name=name).info("for everybody")
    assert "for everybody" in caplog.text


def test_a_console_above_is_the_same_place_whether_out_or_err(name: str) -> None:
    logging.getLogger(name).addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger(name).propagate = False
    child = configure_logging(logger_name=f"{name}.child")
    assert child.propagate is False
    other = configure_logging(stream=io.StringIO(), logger_name=f"{name}.other")
    assert other.propagate is True
    child.handlers.clear()
    other.handlers.clear()


@pytest.mark.parametrize("level", ["loud", "", -1, True, 1.5, None, "Level 5"])
def test_a_level_that_does_not_exist_is_refused_and_named(level: Any) -> None:
    with pytest.raises(ConfigurationError, match="DEBUG, INFO"):
        configure_logging(level, logger_name="posthog_driver.never")
    assert logging.getLogger("posthog_driver.never").handlers == []


@pytest.mark.parametrize(("level", "number"), [(" error ", 40), ("Warning", 30), (5, 5), (logging.CRITICAL, 50)])
def test_levels_are_numbers_or_names(name: str, level: int | str, number: int) -> None:
    assert configure_logging(level, logger_name=name).level == number
