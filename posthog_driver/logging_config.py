r"""Structured logs without secrets.

::

    from posthog_driver.logging_config import configure_logging, correlation_id

    configure_logging("DEBUG")
    with correlation_id("order-4711"):
        client.query("SELECT 1")

writes one line of JSON per record to stderr. Before that the package is silent: its logger has a
``NullHandler``, and importing this module changes nothing.

Secrets are masked wherever they stand: keys with a known prefix (``phx_``, ``phc_``, ``phs_``, ``pha_``,
``e2b_``, ``sk-ant-``), keys made known by `register_secret`, and whatever stands where secrets stand
(``Bearer ...``, ``?api_key=...``, ``"password": "..."``, ``https://user:...@host``). Almost no record holds
one, so a record is first searched for what a secret cannot do without, and rewritten only when that is found.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import logging
import math
import os
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii as _quote
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar

from .exceptions import ConfigurationError

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

__all__ = [
    "RedactingFilter",
    "StructuredFormatter",
    "TextFormatter",
    "carry_context",
    "configure_logging",
    "correlation_id",
    "forget_secret",
    "get_correlation_id",
    "get_logger",
    "mask_api_key",
    "redact",
    "register_secret",
    "set_correlation_id",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PACKAGE = "posthog_driver"

# --- secrets ------------------------------------------------------------------------------------------------

_HIDDEN = "***"
_PREFIXES = ("phx_", "phc_", "phs_", "pha_", "e2b_", "sk-ant-")
_SHORTEST = 8

# Three characters after the prefix at least: a mask shows two of them and must not be masked again. English
# ends words in pha_ and phs_ (alpha_users, graphs_daily): after a letter, only what is as long as a real key
# is one, unless that letter belongs to an escape (\n, %3D).
_PREFIXED = (
    r"(?a)ph[xc]_[\w-]{3,}",
    r"(?a)ph[as]_(?:(?:(?<![A-Za-z]ph[as]_)|(?<=\\[a-z]ph[as]_)|(?<=%[0-9A-Fa-f]{2}ph[as]_))[\w-]{3,}"
    r"|[A-Za-z0-9]{20,})",
    r"(?a)e2b_(?!api_key)[\w-]{3,}",
    r"(?a)sk-ant-[\w-]{3,}",
)
_PH = re.compile("ph[xcas]_")  # starts with a literal, so that the search is as fast as `in`

_NAME = (
    r"(?:(?:api|access|private|secret|signing)[_-]?key"
    r"|token|secret|passw(?:or)?d|passphrase|authorization|cookies?)"
)
_SECRET_NAME = rf"(?i){_NAME}\Z"

# Each pattern: (what stays)(the value), then only looks ahead. None nests one repetition in another over the
# same characters, so each takes linear time.
_PLACES = (
    # Bearer value, also where a URL encoded the space; Authorization: Basic value
    r"(?is)((?:bearer(?:[\s:=+]|%20)+)+|authorization:[ \t]*(?:basic|token)[ \t]+)(?P<value>[^\s\"'<>\\&]+)",
    # "api_key": "value", 'token': b'value', password='value', escaped \"secret\": \"value\", ["value"]
    rf"(?is)({_NAME}(?:\\*[\"'])?\s*[:=]\s*[\[(]?b?(?P<quote>\\*[\"']))(?P<value>.*?)(?=(?<!\\)(?P=quote)|\Z)",
    # ('Authorization', 'value')
    rf"(?is)(\(b?(?P<quote>[\"'])[\w.-]{{0,64}}{_NAME}(?P=quote),\s*b?[\"'])(?P<value>.*?)(?=(?<!\\)[\"']\)|\Z)",
    # ?api_key=value&, POSTHOG_API_KEY=value, api_key%3Dvalue
    rf"(?is)({_NAME}(?:=|%3D))(?!(?:None|null|true|false)\b)(?P<value>[^\s&#\"'<>\\]+)",
    # X-Api-Key: value, Cookie: a=b; c=d, Authorization: Digest a="b", c="d"
    r"(?is)((?:authorization|cookie|api-key|(?<=-)token)\\*[\"']?:[ \t]*)"
    r"(?!(?:bearer|basic|token)[ \t])(?P<value>[^\s\\\"'][^\r\n\\]*)",
    # password: value, where the value does not look like a word of the sentence
    rf"(?is)({_NAME}\\*[\"']?:[ \t]*)(?P<value>(?=[^\s\d]{{0,64}}\d|\S{{20}})[^\s&#\"'<>\\]+)",
    # scheme://user:value@host
    r"(?is)(://[^\s/@:\"'<>]*:)(?P<value>[^\s/?#\"'<>]+)(?=@)",
)
_MASKED = r"(?is)(?:(?:bearer|basic|token)\s+)?(?:.{0,5}\.\.\.|.{6}\.\.\..{2}|\*\*\*)[,;:.)\]}]*"


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    """Compile on first use: all of them at once take longer than importing the rest of the package."""
    return re.compile(text)


def mask_api_key(key: str | None) -> str:
    """Return a key as logs may show it: ``phx_12...90``.

    Args:
        key: The key. None and the empty text give the empty text.

    Returns:
        The first 6 characters, ``...`` and the last 2. A key under 12 characters shows its first half only.
    """
    if not key:
        return ""
    return f"{key[:6]}...{key[-2:]}" if len(key) >= 12 else f"{key[: len(key) // 2]}..."


class _Secrets:
    """The registered keys with the number of their holders, and the texts by which they show."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[str, int] = {}
        self.needles: tuple[tuple[str, str], ...] = ()

    def add(self, key: str, holders: int) -> None:
        with self._lock:
            count = self._holders.get(key, 0) + holders
            if count > 0:
                self._holders[key] = count
            else:
                self._holders.pop(key, None)
            texts = {text for secret in self._holders for text in _appearances(secret)}
            self.needles = tuple((text, mask_api_key(text)) for text in sorted(texts, key=len, reverse=True))
            _FRAGMENTS.clear()


def _appearances(secret: str) -> set[str]:
    """Return the texts as which a secret appears: plain, or escaped by JSON, Python or a URL."""
    prefixed = any(secret.startswith(prefix) and secret != prefix for prefix in _PREFIXES)
    if len(secret) < _SHORTEST and not prefixed:
        return set()
    if _mask_prefixed(f"x{secret}") == f"x{mask_api_key(secret)}":
        return set()  # found by its prefix, wherever it stands
    encoded = secret.encode("utf-8", "surrogatepass")
    return {
        secret,
        _quote(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        repr(encoded)[2:-1],
        urllib.parse.quote(encoded),
        urllib.parse.quote(encoded, safe=""),
        urllib.parse.quote_plus(encoded),
    }


_FRAGMENTS: dict[str, str] = {}  # harmless names of extra fields, as they stand in the line
_SECRETS = _Secrets()


def register_secret(key: str | None) -> None:
    """Mask this key in every log record and every text that goes through `redact`, until it is forgotten.

    A key is masked anywhere, also when JSON, ``repr`` or a URL escaped it. The exception is a key of fewer
    than 8 characters without a known prefix (``"k"``): hiding it everywhere would eat ordinary text, so it is
    masked only where keys stand: after ``Bearer``, in URL parameters, and in fields with a name such as
    ``api_key``.

    Args:
        key: The key; None and the empty text are ignored. Registered twice, it has to be forgotten twice.
    """
    if key:
        _SECRETS.add(key, 1)


def forget_secret(key: str | None) -> None:
    """Take back one `register_secret`; a key that is not registered is ignored."""
    if key:
        _SECRETS.add(key, -1)


def redact(text: str) -> str:
    """Return the text with every secret masked.

    A known key becomes its mask (``phx_12...90``), anything else in a secret's place becomes ``***``.
    Applying it twice changes nothing more. Takes linear time.
    """
    for needle, mask in _SECRETS.needles:
        text = text.replace(needle, mask)
    if _has_prefix(text):
        text = _mask_prefixed(text)
    if _has_place(text):
        for place in _PLACES:
            text = _pattern(place).sub(_hide, text)
    return text


def _mask_prefixed(text: str) -> str:
    for prefixed in _PREFIXED:
        text = _pattern(prefixed).sub(_mask, text)
    return text


def _mask(match: re.Match[str]) -> str:
    return mask_api_key(match[0])


def _hide(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0] if not value or _pattern(_MASKED).fullmatch(value) else match[1] + _HIDDEN


# What no rule can do without, searched in the cheapest way: a single character costs a tenth of a word.


def _has_prefix(text: str) -> bool:
    return _PH.search(text) is not None or "e2b_" in text or "sk-ant-" in text


def _has_needle(text: str) -> bool:
    return any(needle in text for needle, _ in _SECRETS.needles)


def _has_place(text: str) -> bool:
    lower = text.lower()
    if "bearer" in lower:
        return True
    if not ("=" in text or ":" in text or "%" in text or "'" in text or '"' in text):
        return False
    return (
        "key" in lower
        or "token" in lower
        or "secret" in lower
        or "pass" in lower
        or "authorization" in lower
        or "cookie" in lower
        or ("@" in text and "://" in text)
    )


# --- correlation id -----------------------------------------------------------------------------------------

_CORRELATION = contextvars.ContextVar[str | None]("posthog_driver_correlation_id", default=None)


def get_correlation_id() -> str | None:
    """Return the correlation id of this context (thread or task), None if there is none."""
    return _CORRELATION.get()


def set_correlation_id(id: str | None) -> None:
    """Give later log records of this context (thread or task) a ``correlation_id``; None takes it away."""
    _CORRELATION.set(None if id is None else str(id))


@contextlib.contextmanager
def correlation_id(id: str | None = None) -> Iterator[str]:
    """Give the log records inside the ``with`` block a ``correlation_id``, and restore the one before.

    Args:
        id: The id; a random one of 16 characters if None.

    Yields:
        The id.
    """
    chosen = os.urandom(8).hex() if id is None else str(id)
    token = _CORRELATION.set(chosen)
    try:
        yield chosen
    finally:
        _CORRELATION.reset(token)


def carry_context(func: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return ``func`` bound to the present context, for a worker thread: its records keep the correlation id.

    Each call runs in a copy of its own, so any number of threads may run the result at once::

        pool.map(carry_context(client.query), queries)
    """
    snapshot = contextvars.copy_context()

    @functools.wraps(func)
    def carried(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return snapshot.copy().run(func, *args, **kwargs)

    return carried


# --- from a record to plain, harmless values ----------------------------------------------------------------

_ORDER = list(vars(logging.LogRecord("", 0, "", 0, "", (), None)))
_STANDARD = frozenset((*_ORDER, "message", "asctime", "taskName"))
_FIXED = frozenset(("timestamp", "level", "logger", "message", "exception", "stack"))
_DEEPEST = 32


def _plain(value: Any, parents: tuple[int, ...] = ()) -> Any:
    """Return any value as something that JSON can say and that holds no secret; never raises."""
    try:
        return _convert(value, parents)
    except Exception:
        return f"<unprintable {type(value).__name__}>"


def _convert(value: Any, parents: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, (bytes, bytearray)):
        return _text(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, BaseException):
        return _text(f"{type(value).__name__}: {value}")
    if not isinstance(value, (dict, list, tuple, set, frozenset)):
        return _text(str(value))
    if id(value) in parents:
        return "<circular>"
    if len(parents) >= _DEEPEST:
        return f"<nested deeper than {_DEEPEST} levels>"
    parents = (*parents, id(value))
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        fields: dict[str, Any] = {}
        for name, item in value.items():
            _put(fields, name, item, parents)
        return fields
    if isinstance(value, tuple) and len(value) == 2 and _is_secret(*value):
        return [_plain(value[0]), _HIDDEN]
    return [_plain(item, parents) for item in value]


def _integer(value: int) -> int | str:
    try:
        str(value)
    except ValueError:
        return hex(value)  # the interpreter prints no decimal number of more than 4300 digits
    return value


def _put(fields: dict[str, Any], name: Any, value: Any, parents: tuple[int, ...] = ()) -> None:
    """Add a field under its name, or under ``name_2``, ... if that is taken: nothing is lost."""
    shown = str(_plain(name))
    free, number = shown, 1
    while free in fields:
        number += 1
        free = f"{shown}_{number}"
    fields[free] = _HIDDEN if _is_secret(name, value) else _plain(value, parents)


def _is_secret(name: Any, value: Any) -> bool:
    """Tell whether a field's name says that its value is a secret; a mask may be shown."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str) or not _pattern(_SECRET_NAME).search(name) or value is None or type(value) is bool:
        return False
    return not (type(value) is str and (not value or _pattern(_MASKED).fullmatch(redact(value))))


def _text(text: str) -> str:
    text = redact(text)
    # A lone surrogate is no Unicode: strict readers refuse the whole line.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _message(record: logging.LogRecord) -> str:
    """Return the message; arguments that do not fit are named by type only, as nobody knows what they are."""
    try:
        message = record.getMessage()
    except Exception as error:
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        types = ", ".join(type(arg).__name__ for arg in args)
        message = f"{_plain(record.msg)} [arguments of type ({types}) do not fit: {type(error).__name__}]"
    return _text(message)


def _exception_text(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    """Return the traceback as it is, secrets included."""
    info: Any = record.exc_info
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if not info or not info[0]:
        return record.exc_text or None
    try:
        return formatter.formatException(info)
    except Exception as error:
        return f"<the exception could not be formatted: {type(error).__name__}>"


# --- formatters ---------------------------------------------------------------------------------------------

_CONSTANTS = {None: "null", True: "true", False: "false"}
_MOST_NAMES = 1000
_ENCODER = json.JSONEncoder(allow_nan=False, check_circular=False)
_LAST_RESORT = (
    '{"timestamp": null, "level": null, "logger": null, "message": "<the log record could not be formatted>"}'
)


class StructuredFormatter(logging.Formatter):
    """One line of valid JSON (ASCII) per record, whatever is logged; never raises, never changes the record.

    Fields: ``timestamp`` (ISO 8601, UTC, when the record was created), ``level``, ``logger``, ``message``,
    ``correlation_id`` if there is one, every ``extra`` field under its own name (``status_code``,
    ``latency_ms``, ``attempt``, ``query_id``, ``scope``, ...), ``exception`` (the traceback) and ``stack`` if
    the record has them. An extra field whose name is taken gets a number (``level_2``). Secrets are masked in
    all of them, see `redact`.

    What JSON cannot say becomes text: NaN, bytes, integers of more than 4300 digits (in hexadecimal), other
    objects (by ``str``). A circular reference, a structure of more than 32 levels and an object that cannot
    be printed are replaced by a note in angle brackets.
    """

    _second: tuple[int, str] = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON, without the newline."""
        try:
            line = self._simple_line(record)
        except Exception:
            line = None  # arguments that do not fit, an integer too long to print, a lone surrogate, ...
        return self._careful_line(record) if line is None else line

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record as plain values with every secret masked."""
        fields: dict[str, Any] = {
            "timestamp": self._timestamp_or_none(record.created),
            "level": _plain(record.levelname),
            "logger": _plain(record.name),
            "message": _message(record),
        }
        attributes = vars(record)
        correlation = _CORRELATION.get()
        if correlation is not None and "correlation_id" not in attributes:
            fields["correlation_id"] = _text(correlation)
        exception = _exception_text(self, record)
        if exception:
            fields["exception"] = _plain(exception)
        if record.stack_info:
            fields["stack"] = _plain(record.stack_info)
        for name, value in attributes.items():
            if name not in _STANDARD:
                _put(fields, name, value)
                _learn(name)
        return fields

    def _careful_line(self, record: logging.LogRecord) -> str:
        """Return the line for any record."""
        try:
            return _ENCODER.encode(self.fields(record))
        except Exception:
            return _LAST_RESORT

    def _simple_line(self, record: logging.LogRecord) -> str | None:
        """Return the line for a record of scalars without secrets but prefixed keys: nearly every one."""
        if record.exc_info or record.exc_text or record.stack_info:
            return None
        message = record.getMessage()
        texts = [message, record.name, record.levelname]
        parts = [
            f'{{"timestamp": "{self._timestamp(record.created)}", "level": {_quote(record.levelname)}, '
            f'"logger": {_quote(record.name)}, "message": {_quote(message)}'
        ]
        attributes = record.__dict__
        correlation = _CORRELATION.get()
        if correlation is not None and "correlation_id" not in attributes:
            texts.append(correlation)
            parts.append(f', "correlation_id": {_quote(correlation)}')
        names = list(attributes)
        # A new record's own attributes come first and in one order: one comparison is less than 22 look-ups.
        for name in names[len(_ORDER) :] if names[: len(_ORDER)] == _ORDER else names:
            if name in _STANDARD:
                continue
            fragment = _FRAGMENTS.get(name)
            if fragment is None:
                return None
            value = attributes[name]
            kind = type(value)
            if kind is str:
                texts.append(value)
                parts.append(fragment + _quote(value))
            elif kind is int:
                parts.append(f"{fragment}{value}")
            elif kind is float and math.isfinite(value):
                parts.append(f"{fragment}{value!r}")
            elif value is None or kind is bool:
                parts.append(fragment + _CONSTANTS[value])
            else:
                return None
        searched = "\n".join(texts)
        if _has_place(searched) or (_SECRETS.needles and _has_needle(searched)):
            return None
        if not searched.isascii():
            searched.encode()  # raises if there is a lone surrogate
        parts.append("}")
        line = "".join(parts)
        if not _has_prefix(searched):
            return line
        return None if "\\" in line else _mask_prefixed(line)  # an escape may look like the letter before a key

    def _timestamp(self, created: float) -> str:
        second, micros = divmod(int(created * 1_000_000), 1_000_000)
        known, text = self._second
        if second != known:
            text = datetime.fromtimestamp(second, timezone.utc).isoformat()[:19]
            self._second = (second, text)
        return f"{text}.{micros:06d}+00:00"

    def _timestamp_or_none(self, created: float) -> str | None:
        try:
            return self._timestamp(created)
        except Exception:
            return None


def _learn(name: str) -> None:
    """Remember the name of an extra field that needs no care, for `StructuredFormatter._simple_line`."""
    harmless = type(name) is str and name.isascii() and name not in _FIXED and not _pattern(_SECRET_NAME).search(name)
    if harmless and len(_FRAGMENTS) < _MOST_NAMES and redact(name) == name:
        _FRAGMENTS[name] = f", {_quote(name)}: "


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n", 13: "\\r", 9: "\\t"}


class TextFormatter(StructuredFormatter):
    """The same fields for people: a line per record, then the traceback. No message can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        fields = json.loads(super().format(record))
        words = [str(fields.pop(name)) for name in ("timestamp", "level", "logger", "message")]
        blocks = [fields.pop(name, None) for name in ("exception", "stack")]
        words += [f"{name}={_ENCODER.encode(value)}" for name, value in fields.items()]
        return "\n".join([" ".join(words).translate(_CONTROL), *(str(block) for block in blocks if block)])


class RedactingFilter(logging.Filter):
    """Masks secrets in the record itself, for handlers with a formatter of their own.

    ::

        handler.addFilter(RedactingFilter())

    Handlers that come later see the masked record too. Only what holds a secret is replaced: the message (its
    arguments are then merged into it), an extra field, the stack, and the traceback, whose ``exc_info`` then
    gives way to ``exc_text``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record's secrets; always True."""
        self._clean_message(record)
        self._clean_exception(record)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in list(vars(record).items()):
            if name not in _STANDARD and _holds_secret(name, value):
                del vars(record)[name]
                _put(vars(record), name, value)
        return True

    @staticmethod
    def _clean_message(record: logging.LogRecord) -> None:
        message = _message(record)
        try:
            unchanged = record.getMessage() == message
        except Exception:
            unchanged = False  # the handler would print the arguments as they are
        if not unchanged:
            record.msg, record.args = message, ()

    @staticmethod
    def _clean_exception(record: logging.LogRecord) -> None:
        text = _exception_text(_FORMATTER, record)
        clean = _plain(text)
        if clean != text:
            record.exc_text, record.exc_info = clean, None
        elif record.exc_text:
            record.exc_text = redact(record.exc_text)  # another formatter's version


_FORMATTER = logging.Formatter()


def _holds_secret(name: str, value: Any) -> bool:
    try:
        shown = f"{name}\n{value}\n{value!r}"
    except Exception:
        return True  # nobody knows: it gives way to a note
    return _is_secret(name, value) or redact(shown) != shown


# --- configuration ------------------------------------------------------------------------------------------


class _Handler(_StreamHandler):
    """The handler of `configure_logging`: standard error is what ``sys.stderr`` is when a record comes."""

    @property
    def stream(self) -> TextIO:
        return self._stream or sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        self._stream = None if stream is sys.stderr else stream


_CONFIGURING = threading.Lock()


def get_logger(name: str = _PACKAGE) -> logging.Logger:
    """Return the logger of that name; `configure_logging` rules ``posthog_driver`` and the names below it."""
    return logging.getLogger(name)


def configure_logging(
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
    *,
    json: bool = True,
    logger_name: str = _PACKAGE,
) -> logging.Logger:
    """Write the package's log records to a stream; called again, it changes the settings and adds nothing.

    Only this one logger is touched, and of its handlers only the one that this function made. Records go on
    to the root logger's handlers too, unless one of those writes to the same place at the time of the call:
    then propagation is switched off, as every record would be printed twice.

    Args:
        level: The lowest level that is written: a number or a name in any case, such as ``"debug"``.
        stream: Where to write; None is standard error, looked up for each record.
        json: One line of JSON per record, see `StructuredFormatter`; otherwise text for people.
        logger_name: The logger.

    Returns:
        The logger.

    Raises:
        ConfigurationError: No such level.
    """
    number = _level(level)
    logger = logging.getLogger(logger_name)
    with _CONFIGURING:
        handler = next((handler for handler in logger.handlers if isinstance(handler, _Handler)), None)
        if handler is None:
            handler = _Handler()
            for other in list(logger.handlers):
                if isinstance(other, logging.NullHandler):
                    logger.removeHandler(other)
            logger.addHandler(handler)
        handler.stream = stream or sys.stderr
        handler.setFormatter(StructuredFormatter() if json else TextFormatter())
        logger.setLevel(number)
        if _printed_above(logger, handler.stream):
            logger.propagate = False
    return logger


def _level(level: int | str) -> int:
    number: Any = logging.getLevelName(level.strip().upper()) if isinstance(level, str) else level
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ConfigurationError(
            f"There is no log level {redact(repr(level))}: "
            "give DEBUG, INFO, WARNING, ERROR, CRITICAL or a number such as logging.INFO."
        )
    return number


def _printed_above(logger: logging.Logger, stream: TextIO) -> bool:
    """Tell whether an ancestor's handler writes to the same stream, or to the console as this one does."""
    console = (sys.stdout, sys.stderr)
    same = console if stream in console else (stream,)
    above = logger.parent
    while above:
        if any(getattr(handler, "stream", None) in same for handler in above.handlers):
            return True
        above = above.parent if above.propagate else None
    return False
