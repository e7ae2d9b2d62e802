"""Finds secrets in text and masks them, wherever they stand.

Masked are keys with a known prefix (``phx_``, ``phc_``, ``phs_``, ``pha_``, ``e2b_``, ``sk-ant-``), keys made known by
`register_secret`, and whatever stands where secrets stand (``Bearer ...``, ``?api_key=...``, ``"password": "..."``,
``https://user:...@host``). Almost no text holds one, so a text is first searched for what a secret cannot do without,
and rewritten only when that is found.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
import urllib.parse
from collections import deque
from json.encoder import encode_basestring_ascii as _quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["forget_secret", "mask_api_key", "redact", "register_secret"]

HIDDEN = "***"
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
SECRET_NAME = rf"(?i){_NAME}\Z"

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
MASKED = r"(?is)(?:(?:bearer|basic|token)\s+)?(?:.{0,5}\.\.\.|.{6}\.\.\..{2}|\*\*\*)[,;:.)\]}]*"


@functools.cache
def pattern(text: str) -> re.Pattern[str]:
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
        self._lock = threading.RLock()
        self._changes: deque[tuple[str, int]] = deque()
        self._changing = False
        self._holders: dict[str, int] = {}
        self.needles: tuple[tuple[str, str], ...] = ()
        self.listeners: list[Callable[[], None]] = []

    def add(self, key: str, holders: int) -> None:
        """Count holders of a key; the garbage collector may call this in the middle of itself, in the same thread."""
        self._changes.append((key, holders))
        with self._lock:
            if self._changing:
                return  # the call that was interrupted goes on with this change
            self._changing = True
            try:
                while self._changes:
                    self._apply(*self._changes.popleft())
            finally:
                self._changing = False

    def _apply(self, key: str, holders: int) -> None:
        count = self._holders.pop(key, 0) + holders
        if count > 0:
            self._holders[key] = count
        texts = {text for secret in tuple(self._holders) for text in _appearances(secret)}
        self.needles = tuple((text, mask_api_key(text)) for text in sorted(texts, key=len, reverse=True))
        for changed in self.listeners:
            changed()

    def renew(self) -> None:
        """Start over in a forked child with a lock that nobody holds."""
        self._lock = threading.RLock()
        self._changing = False


def _appearances(secret: str) -> set[str]:
    """Return the texts as which a secret appears: plain, or escaped by JSON, Python or a URL."""
    prefixed = any(secret.startswith(prefix) and secret != prefix for prefix in _PREFIXES)
    if len(secret) < _SHORTEST and not prefixed:
        return set()
    if mask_prefixed(f"x{secret}") == f"x{mask_api_key(secret)}":
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


SECRETS = _Secrets()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SECRETS.renew)


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
        SECRETS.add(key, 1)


def forget_secret(key: str | None) -> None:
    """Take back one `register_secret`; a key that is not registered is ignored."""
    if key:
        SECRETS.add(key, -1)


def redact(text: str) -> str:
    """Return the text with every secret masked.

    A known key becomes its mask (``phx_12...90``), anything else in a secret's place becomes ``***``.
    Applying it twice changes nothing more. Takes linear time.
    """
    for needle, mask in SECRETS.needles:
        text = text.replace(needle, mask)
    if has_prefix(text):
        text = mask_prefixed(text)
    if has_place(text):
        for place in _PLACES:
            text = pattern(place).sub(_hide, text)
    return text


def mask_prefixed(text: str) -> str:
    for prefixed in _PREFIXED:
        text = pattern(prefixed).sub(_mask, text)
    return text


def _mask(match: re.Match[str]) -> str:
    return mask_api_key(match[0])


def _hide(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0] if not value or pattern(MASKED).fullmatch(value) else match[1] + HIDDEN


# What no rule can do without, searched in the cheapest way: a single character costs a tenth of a word.


def has_prefix(text: str) -> bool:
    return _PH.search(text) is not None or "e2b_" in text or "sk-ant-" in text


def has_needle(text: str) -> bool:
    return any(needle in text for needle, _ in SECRETS.needles)


def has_place(text: str) -> bool:
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
