"""Personal data on its way to a model: shown under pseudonyms, left out, or shown if the host says so.

A value is personal by the name of its column, property, JSON key or URL parameter (``email``, ``$ip``, ``phone``,
``first_name``, ...), or by its own shape wherever it stands: e-mail addresses, IP addresses and telephone numbers are
found inside any text. Names of people have no shape: an expression under an alias of its own is not recognised.

A pseudonym is a keyed hash: the same value has the same one in every answer of a toolkit, so that answers can be
joined, and without the toolkit's secret nobody can tell or make them.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hmac
import ipaddress
import json
import re
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

from posthog_driver.exceptions import ConfigurationError
from posthog_driver.tools.layout import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from posthog_driver.tools.layout import Block

__all__ = ["ColumnPolicy", "Masking"]

_MODES = ("mask", "drop", "show")
_KINDS = {
    "email": ("e-mail address", "e-mail addresses"),
    "ip": ("IP address", "IP addresses"),
    "phone": ("telephone number", "telephone numbers"),
    "name": ("name of a person", "names of people"),
    "private": ("private value", "private values"),
}
# 35 bits: ten thousand values share a pseudonym with a chance of 0.15 %.
_PSEUDONYM = 7
# A smaller number of a column `mobile` counts something.
_LEAST_PHONE = 10**8
# What a name means stands at its end.
_LONGEST_NAME = 200
# Too deep, or an integer of thousands of digits.
_UNSEARCHABLE = (RecursionError, ValueError)

# Names ---------------------------------------------------------------------------------------------------------------

# One part of an expression or path: `person.properties.email` has three, `lower(email)` two.
_PART = re.compile(r"[\w$-]+(?: [\w$-]+)*")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_AFTER = frozenset(["address", "addr", "number", "no", "raw", "value", "text"])
_WORDS = {
    "email": ("email", "emails", "mail", "mails"),
    "ip": ("ip", "ips", "ipv", "remote", "clientip"),
    "phone": ("phone", "phones", "telephone", "tel", "mobile", "cellphone", "fax", "msisdn", "whatsapp"),
    "name": ("surname", "forename", "firstname", "lastname", "fullname", "username", "nickname"),
}
_OWNERS = ("first", "last", "full", "middle", "given", "family", "user", "person", "customer", "contact", "display",
           "nick", "maiden", "legal", "owner", "employee", "member", "recipient", "sender", "cardholder", "billing",
           "shipping", "sur", "fore")  # fmt: skip
_KIND_OF = {word: kind for kind, words in _WORDS.items() for word in words} | {f"{who}name": "name" for who in _OWNERS}


@functools.lru_cache(maxsize=4096)
def _kind_of_name(name: str, private: frozenset[str], allowed: frozenset[str]) -> str | None:
    for part in _PART.findall(name) or [name]:
        bare = part.casefold().lstrip("$")
        if bare in private:
            return "private"
        if bare not in allowed and (kind := _kind_of_part(part)):
            return kind
    return None


def _kind_of_part(part: str) -> str | None:
    words = [word.lower() for word in _WORD.findall(part)]
    while len(words) > 1 and (words[-1] in _AFTER or words[-1].isdigit()):
        words.pop()
    if words == ["name"]:
        return "name"
    return _KIND_OF.get("".join(words[-2:])) or _KIND_OF.get(words[-1]) if words else None


# Shapes --------------------------------------------------------------------------------------------------------------

# Begins at a boundary only, so that a long word is read once.
_EMAIL = re.compile(r"(?<![\w.+%~-])[\w.+%~-]+(?:'[\w.+%~-]+)?(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_IP = re.compile(
    r"(?<![\w.])(?<!\w/)(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"
    r"|(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{1,4})?(?![\w:])"
)
_PHONE = re.compile(
    r"(?<![\w+])(?:\+|00)[1-9](?:[ ().\-/]{0,2}\d){7,14}(?!\w)"
    r"|(?<![\w.+-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w.-])"
)
_SHAPES = {"email": _EMAIL, "ip": _IP, "phone": _PHONE}
# Most texts have none of what each of the shapes needs.
_HINT = re.compile(r"@|%40|[0-9a-fA-F:]:|\d\.\d|\d[ .)-]|\d{8}")
# `?email=...` of addresses and `"email": "..."` of JSON that was cut.
_PARAMETER = re.compile(r"([?&#;])([\w.$%\[\]-]+)(=)([^&#\s\"'<>]+)")
_MEMBER = re.compile(r"(\")((?:[^\"\\]|\\.){1,80})(\"\s*:\s*\")((?:[^\"\\]|\\.)+)")


def _is_ip(text: str) -> bool:
    if text.endswith(".0.0"):  # 142.0.0.0 is the version of a browser
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(character.isdigit() for character in text) and text != "::1"


def _normal(kind: str, value: str) -> str:
    """Return what two spellings of one value have in common."""
    text = " ".join(value.split()).casefold()
    if kind == "email":
        return text.replace("%40", "@")
    if kind == "phone":
        digits = re.sub(r"\D", "", text)
        return digits.removeprefix("00") if digits else text
    if kind == "ip":
        try:
            return ipaddress.ip_address(text).compressed
        except ValueError:
            return text
    return text


# The policy ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ColumnPolicy:
    """What becomes of personal data.

    Args:
        mode: ``mask`` puts pseudonyms (``email-k3f9a2c``) in place of values; ``drop`` leaves columns and keys out and
            writes ``[email]`` where one stands inside a text; ``show`` changes nothing.
        columns: Further names of columns, properties and JSON keys that are private, as ``iban``; case does not matter.
        allowed: Names that are not personal in this project, although they look so, as ``name``.
        secret: Key of the pseudonyms; a random one for each policy.

    Raises:
        ConfigurationError: there is no such mode.
    """

    mode: str = "mask"
    columns: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    secret: bytes = dataclasses.field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ConfigurationError(f"pii is one of {', '.join(_MODES)}, not {self.mode!r}.")

    def apply(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> tuple[tuple[str, ...], list[list[Any]], tuple[str, ...]]:
        """Return the columns and rows as the model may see them, and notes that say what was done."""
        names, kept, changed, notes = self._work(columns, rows)
        return tuple(names[number] for number in kept), changed, notes

    def protect(self, block: Block) -> Block:
        """Return the block as the model may see it, with notes that say what was done."""
        if self.mode == "show":
            return block
        names, kept, rows, notes = self._work(block.columns, block.rows)
        return block._replace(
            columns=tuple(names[number] for number in kept),
            types=tuple(block.types[number] for number in kept if number < len(block.types)),
            rows=rows,
            notes=(*block.notes, *notes),
        )

    def masking(self) -> Masking:
        """Return a run of this policy over single values, which counts what it changes."""
        return Masking(self)

    def text(self, text: str) -> str:
        """Return a text, such as a message of the server, without the personal data that can be told by its shape."""
        return str(Masking(self).cell("", text))

    def kind(self, name: str) -> str | None:
        """Return what a column, property or key of this name holds: ``email``, ``ip``, ``phone``, ``name``, ..."""
        return _kind_of_name(name[-_LONGEST_NAME:], _bare(self.columns), _bare(self.allowed))

    def _work(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> tuple[list[str], list[int], list[list[Any]], tuple[str, ...]]:
        everything = list(range(len(columns)))
        if self.mode == "show":
            return list(columns), everything, [list(row) for row in rows], ()
        kinds = [self.kind(name) for name in columns]
        drops = self.mode == "drop"
        kept = [number for number in everything if not (drops and kinds[number])]
        work = Masking(self)
        changed = []
        for row in rows:
            cells = []
            for work.column, number in enumerate(kept, 1):
                cells.append(work.value(row[number], kinds[number]))
            changed.append(cells)
        work.column = 0
        names = [str(work.value(name, None)) for name in columns]
        dropped = [number + 1 for number in everything if number not in kept]
        return names, kept, changed, (*_dropped_note(dropped), *work.notes())


@functools.lru_cache(maxsize=64)
def _bare(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.casefold().lstrip("$") for name in names)


def _dropped_note(dropped: list[int]) -> tuple[str, ...]:
    if not dropped:
        return ()
    return (f"left out as personal data: column {_listed(dropped)} of what was selected",)


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return ", ".join(map(str, numbers[:10])) + more


class Masking:
    """One run of a policy; counts what it changes."""

    def __init__(self, policy: ColumnPolicy) -> None:
        self._policy = policy
        self._found: Counter[str] = Counter()
        self._columns: set[int] = set()
        self._unsearched = 0
        self.column = 0

    def notes(self) -> tuple[str, ...]:
        """Say what was changed, in numbers."""
        said = []
        if self._found:
            kinds = ", ".join(count(number, *_KINDS[kind]) for kind, number in sorted(self._found.items()))
            mask = self._policy.mode == "mask"
            how = "the same value has the same pseudonym in every answer" if mask else "each is written as [kind]"
            where = f" in column {_listed(sorted(self._columns))}" if self._columns else ""
            said.append(f"{'masked' if mask else 'left out'} as personal data: {kinds}{where}; {how}")
        if self._unsearched:
            said.append(
                f"not shown: {count(self._unsearched, 'cell')} with JSON that cannot be searched for personal data"
            )
        return tuple(said)

    def cell(self, name: str, value: Any) -> Any:
        """Return a value of the column, property or key of this name as the model may see it."""
        return value if self._policy.mode == "show" else self.value(value, self._policy.kind(name))

    def value(self, value: Any, kind: str | None) -> Any:
        """Return a cell without personal data; ``kind`` is what its name says."""
        try:
            return self._value(value, kind)
        except _UNSEARCHABLE:
            self._unsearched += 1
            return "[not shown]"

    def text(self, text: str) -> str:
        """Return a text of which no name says anything, without what its shape gives away."""
        if text[:1] in ("{", "[") and (searched := self._json(text, None)) is not None:
            return searched
        if "=" in text:
            text = _PARAMETER.sub(self._named, text)
        if '"' in text:
            text = _MEMBER.sub(self._named, text)
        if _HINT.search(text):
            for kind, shape in _SHAPES.items():
                text = shape.sub(functools.partial(self._shaped, kind), text)
        return text

    def _value(self, value: Any, kind: str | None) -> Any:
        if isinstance(value, str):
            return self._by_name(value, kind) if kind else self.text(value)
        if isinstance(value, (dict, _Pairs)):
            return self._object(value.items() if isinstance(value, dict) else value, kind)
        if isinstance(value, (list, tuple)):
            return [self._value(item, kind) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_number = kind == "phone" and abs(value) >= _LEAST_PHONE
            return self._pseudonym(kind, str(value)) if kind and (is_number or kind == "private") else value
        return value

    def _object(self, pairs: Iterable[tuple[Any, Any]], kind: str | None) -> dict[str, Any]:
        found = {}
        for key, value in pairs:
            known = kind or self._policy.kind(str(key))
            if known and self._policy.mode == "drop":
                self._count(known)
            else:
                found[self.text(str(key))] = self._value(value, known)
        return found

    def _by_name(self, text: str, kind: str) -> str:
        if text[:1] in ("{", "[") and (searched := self._json(text, kind)) is not None:
            return searched
        shaped = (name for name, shape in _SHAPES.items() if shape.fullmatch(text.strip()))
        return self._pseudonym(next(shaped, kind), text) if text else text

    def _json(self, text: str, kind: str | None) -> str | None:
        """Return JSON text without personal data, as it was if there is none; None if it is no JSON."""
        try:
            parsed = json.loads(text, object_pairs_hook=_Pairs)
        except json.JSONDecodeError:
            return None
        before = self._found.total()
        changed = self._value(parsed, kind)
        if self._found.total() == before:
            return text
        return json.dumps(changed, ensure_ascii=False, separators=(",", ":"))

    def _named(self, match: re.Match[str]) -> str:
        before, name, between, value = match.groups()
        kind = self._policy.kind(name)
        return f"{before}{name}{between}{self._pseudonym(kind, value)}" if kind else match[0]

    def _shaped(self, kind: str, match: re.Match[str]) -> str:
        return match[0] if kind == "ip" and not _is_ip(match[0]) else self._pseudonym(kind, match[0])

    def _pseudonym(self, kind: str, value: str) -> str:
        self._count(kind)
        if self._policy.mode == "drop":
            return f"[{kind}]"
        message = f"{kind}\0{_normal(kind, value)}".encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._policy.secret, message, "sha256")
        return f"{kind}-{base64.b32encode(digest).decode()[:_PSEUDONYM].lower()}"

    def _count(self, kind: str) -> None:
        self._found[kind] += 1
        if self.column:
            self._columns.add(self.column)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys, also those that come twice."""
