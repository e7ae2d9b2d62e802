"""What leaves a trace: one JSON line for each call, and the filter that every outgoing text passes.

A line holds the time, the conversation, the tool, its arguments, the query's id, how much was answered, how long it
took and how it ended; never a row, and never a key. Values of arguments are hashed unless the host allows them.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from posthog_driver.logging_config import mask_api_key, redact

__all__ = ["Audit", "Call", "scrub", "scrub_keys"]

Sink = Callable[[str], None]

_DIGITS = 12
# Said in a line as they are, once they fit their schema: choices, sizes and dates, which tell nothing about people.
_PLAIN = frozenset(
    [
        *("check_only", "compare", "cursor", "detail", "every", "first_time_only", "max_rows", "measure", "operation"),
        *("order", "periods", "since", "until", "within"),
    ]
)
# PostHog's kinds of keys. English ends words in these letters and an underscore (alpha_users): after a letter, only
# what is as long as a real key is one.
_KEYS = re.compile(r"(?a)(?:(?<![A-Za-z])ph[aersx]_[\w-]{3,}|ph[aersx]_[A-Za-z0-9]{20,})")

logger = logging.getLogger("posthog_driver.tools")


def scrub(text: str) -> str:
    """Return one value or line without secrets: keys, and what stands where secrets stand.

    Never for several lines at once: what one of them quotes could then hide the others.
    """
    return scrub_keys(redact(text))


def scrub_keys(text: str) -> str:
    """Return a text without anything that has the shape of PostHog's keys; lines stay lines."""
    return _KEYS.sub(_mask, text) if "ph" in text else text


def _mask(match: re.Match[str]) -> str:
    return mask_api_key(match[0])


class Call(NamedTuple):
    """One call as the audit sees it.

    Attributes:
        conversation: Id of the toolkit.
        tool: Name of the tool, as it was called.
        arguments: The arguments; those that fit the tool's schema if ``valid``, else as they came.
        valid: Whether they fit.
        outcome: ``ok``, ``running``, or the kind of the error.
        facts: ``query_id``, ``rows``, ``characters`` and the like.
        seconds: How long the call took.
    """

    conversation: str
    tool: str
    arguments: Any
    valid: bool
    outcome: str
    facts: Mapping[str, Any]
    seconds: float


class Audit:
    """Writes a JSON line for each call.

    Args:
        sink: Takes each line: a function (``file.write`` adds no line end), or a logger, at level INFO.
        values: ``"hashed"`` (default) shows values of arguments as keyed hashes, the same for the same value as long
            as ``secret`` is the same; ``"plain"`` shows them, without secrets.
        secret: Key of the hashes; random if None, so that nobody can guess values from them.
    """

    def __init__(self, sink: Sink | logging.Logger, *, values: str = "hashed", secret: bytes | None = None) -> None:
        if values not in ("hashed", "plain"):
            raise ValueError(f'values is "hashed" or "plain", not {values!r}')
        self._sink: Sink = functools.partial(sink.info, "%s") if isinstance(sink, logging.Logger) else sink
        self._is_plain = values == "plain"
        self._secret = secret or secrets.token_bytes(32)

    def write(self, call: Call, moment: float) -> None:
        """Write the line of a call; a sink that fails is logged, and costs the model nothing.

        Args:
            call: The call.
            moment: Seconds since the epoch.
        """
        try:
            text = scrub_keys(json.dumps(self._line(call, moment), default=str))
            self._sink(text)
        except Exception as error:
            logger.error("an audit line could not be written: %s", scrub(f"{type(error).__name__}: {error}"))

    def _line(self, call: Call, moment: float) -> dict[str, Any]:
        return {
            "time": dt.datetime.fromtimestamp(moment, dt.timezone.utc).isoformat(timespec="milliseconds"),
            "conversation": call.conversation,
            "tool": call.tool if call.tool.isidentifier() and call.tool.isascii() else self._hash(call.tool),
            "arguments": self._arguments(call),
            **call.facts,
            "ms": round(call.seconds * 1000),
            "outcome": call.outcome,
        }

    def _arguments(self, call: Call) -> Any:
        if not isinstance(call.arguments, Mapping):
            return self._value(call.arguments)
        return {
            name if call.valid else self._hash(str(name)): value
            if call.valid and name in _PLAIN
            else self._value(value)
            for name, value in call.arguments.items()
        }

    def _value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {scrub(str(name)): self._value(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._value(inner) for inner in value]
        if value is None or isinstance(value, bool):
            return value
        if not self._is_plain:
            return self._hash(value if isinstance(value, str) else repr(value))
        return scrub(value) if isinstance(value, str) else value

    def _hash(self, text: str) -> str:
        digest = hmac.new(self._secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"hash:{digest[:_DIGITS]}"
