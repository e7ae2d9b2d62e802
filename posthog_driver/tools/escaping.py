r"""Untrusted text on one line, without tags and without characters that cannot be seen; reversible.

Every rule here makes the text longer only where it has to: addresses, Windows paths and JSON stay readable.
"""

from __future__ import annotations

import re

__all__ = ["escape", "is_safe", "is_shortened", "shorten", "unescape"]

# Control, format and surrogate characters, line and paragraph separators, and those that are letters or marks by
# category but show nothing (fillers, variation selectors) or that normalise to "<".
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufe64\ufeff\uff1c\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# "<" counts as the start of a tag also when blanks or hidden characters stand between it and the name.
_TAG_START = rf"<(?=[\s{_HIDDEN}]*(?:[^\W\d_]|[/!?|]))"
_UNSAFE = re.compile(rf"[{_HIDDEN}]|{_TAG_START}")
# A backslash is doubled only where it could be read as the start of an escape: Windows paths and JSON stay readable.
_TO_ESCAPE = re.compile(rf"\\+(?=[nrtuU…{_HIDDEN}]|{_TAG_START})|\\{{2,}}|[{_HIDDEN}]|{_TAG_START}")
_ESCAPED = re.compile(r"\\(?:(\\)|([nrt])|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG = {escaped[1]: plain for plain, escaped in _SHORT.items()}
_SHORTENED = re.compile(r"(?<!\\)((?:\\\\)*)\\…\+(\d+)\Z")


def escape(text: str) -> str:
    r"""Return the text on one line, without tags and without characters that cannot be seen; see `unescape`.

    ``\n``, ``\r`` and ``\t`` are written so, anything else as ``\uXXXX`` or ``\UXXXXXXXX``, lower-case; ``<`` is an
    escape where a tag could begin. A backslash is doubled where it would otherwise read as an escape.
    """
    return _TO_ESCAPE.sub(_escape_match, text)


def _escape_match(match: re.Match[str]) -> str:
    found = match[0]
    if found[0] == "\\":
        return found * 2
    code = ord(found)
    return _SHORT.get(found) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def unescape(text: str) -> str:
    """Return what `escape` was given."""
    return _ESCAPED.sub(_unescape_match, text)


def _unescape_match(match: re.Match[str]) -> str:
    backslash, letter, four, eight = match.groups()
    if backslash:
        return "\\"
    return _LONG[letter] if letter else chr(int(four or eight, 16))


def shorten(text: str, most: int) -> tuple[str, int]:
    r"""Return the escaped text in at most ``most`` characters, and how many characters of the text were left out.

    What was shortened ends in ``\…+N``, N the number of characters left out; no text can forge that end.
    """
    whole = escape(text) if len(text) <= most else ""
    if len(text) <= most and len(whole) <= most:
        return whole, 0
    kept = min(len(text), most)
    while len(head := _escape_head(text[:kept])) > most:
        kept = kept * most // len(head)
    return f"{head}\\…+{len(text) - kept}", len(text) - kept


def _escape_head(text: str) -> str:
    """Escape a text that another escape will follow: a backslash at its end is doubled, too."""
    return escape(text + "\0")[: -len("\\u0000")]


def is_safe(text: str) -> bool:
    """Return whether the text holds nothing that `escape` would have to take out; what it returned is safe."""
    return _UNSAFE.search(text) is None


def is_shortened(escaped: str) -> bool:
    """Return whether an escaped text ends in the mark of `shorten`."""
    return _SHORTENED.search(escaped) is not None
