r"""Structured logs without secrets.

::

    from posthog_driver.logging_config import configure_logging, correlation_id

    configure_logging("DEBUG")
    with correlation_id("order-4711"):
        client.query("SELECT 1")

writes one line of JSON per record to stderr. Before that the package is silent: its logger has a
``NullHandler``, and importing this module changes nothing.

Secrets are masked wherever they stand in a record: `posthog_driver._redaction` says which and how.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii as _quote
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar

from posthog_driver._redaction import (
    HIDDEN,
    MASKED,
    SECRET_NAME,
    SECRETS,
    forget_secret,
    has_needle,
    has_place,
    has_prefix,
    mask_api_key,
    mask_prefixed,
    pattern,
    redact,
    register_secret,
)
from posthog_driver.exceptions import ConfigurationError

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
        return [_plain(value[0]), HIDDEN]
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
    fields[free] = HIDDEN if _is_secret(name, value) else _plain(value, parents)


def _is_secret(name: Any, value: Any) -> bool:
    """Tell whether a field's name says that its value is a secret; a mask may be shown."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str) or not pattern(SECRET_NAME).search(name) or value is None or type(value) is bool:
        return False
    return not (type(value) is str and (not value or pattern(MASKED).fullmatch(redact(value))))


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

_FRAGMENTS: dict[str, str] = {}  # harmless names of extra fields, as they stand in the line
SECRETS.listeners.append(_FRAGMENTS.clear)
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
        if has_place(searched) or (SECRETS.needles and has_needle(searched)):
            return None
        if not searched.isascii():
            searched.encode()  # raises if there is a lone surrogate
        parts.append("}")
        line = "".join(parts)
        if not has_prefix(searched):
            return line
        return None if "\\" in line else mask_prefixed(line)  # an escape may look like the letter before a key

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
    harmless = type(name) is str and name.isascii() and name not in _FIXED and not pattern(SECRET_NAME).search(name)
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
