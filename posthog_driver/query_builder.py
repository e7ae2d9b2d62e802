r"""HogQL out of trusted and untrusted parts: pure text work, nothing is sent.

Every part is either exact or refused with a `ValidationError` before anything is sent. Data becomes a bound
value (`QueryBuilder.build_bound`, to be preferred) or an escaped literal (`QueryBuilder.build`); names are
checked and quoted; operators, functions and directions come from fixed lists.

The rules are those of PostHog's own parser: in a string literal ``\`` is written ``\\`` and ``'`` is written
``\'``; a name is plain if it matches ``[A-Za-z_$][A-Za-z0-9_$]*``, else it stands in backticks with backticks
doubled; NUL, which the parser drops without a word, has no spelling and is refused.
"""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from posthog_driver.exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime

__all__ = ["MAX_LIMIT", "QueryBuilder", "escape_like", "escape_literal", "quote_identifier", "quote_path"]

MAX_LIMIT = 50_000
"""Most rows PostHog answers; it cuts a larger LIMIT without a word, so the builder refuses it."""

Scalar = bool | int | float | str | None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Patterns are text here and compiled on first use, as importing this must cost nothing.
_PLAIN_NAME = r"[A-Za-z_$][A-Za-z0-9_$]*"
_RESERVED_ALIASES = frozenset({"true", "false", "null", "team_id"})
# Words that the parser would read as something other than a name. Quoting one more than needed does no harm.
_KEYWORDS = _words("""
    all and any array as asc asof between by case cast catch cross desc distinct else end except false final
    finally fn from full fun group having if ilike in inf infinity inner intersect interval into is join left
    let like limit materialized nan not null offset on or order outer over prewhere qualify right sample
    select settings then throw top totals true try union using values when where while window with within
""")
_FUNCTIONS = _words("""
    any anyLast argMax argMin avg avgIf count countIf groupArray groupUniqArray max maxIf median min minIf sum
    sumIf uniq uniqExact uniqIf

    dateDiff dateTrunc now toDate toDateTime toDayOfMonth toDayOfWeek toHour toMinute toMonth toStartOfDay
    toStartOfHour toStartOfMinute toStartOfMonth toStartOfQuarter toStartOfWeek toStartOfYear toTimeZone
    toYear today yesterday

    toBool toFloat toInt toString toUUID abs ceil floor round concat domain empty length lower notEmpty path
    replaceAll substring trim upper coalesce if ifNull nullIf

    JSONExtractBool JSONExtractFloat JSONExtractInt JSONExtractRaw JSONExtractString JSONHas
""")
_OPERATORS = frozenset(
    {"=", "!=", ">", "<", ">=", "<=", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"}
    | {"IN", "NOT IN", "BETWEEN", "IS NULL", "IS NOT NULL"}
)
_DIRECTIONS = frozenset({"ASC", "DESC"})
_COMPARISONS = ("=", "!=", ">", "<", ">=", "<=")
_LITERAL_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}

# The escapes that the parser knows; any other letter after a backslash is a syntax error there.
_CONTROLS = {raw: "\\" + letter for raw, letter in zip("\b\f\r\n\t\a\v\\", "bfrntav\\", strict=True)}
_TEXT_ESCAPES = str.maketrans(_CONTROLS | {"'": r"\'"})
_NAME_ESCAPES = str.maketrans(_CONTROLS | {"`": "``"})
_UNESCAPES = {escaped[1]: raw for raw, escaped in _CONTROLS.items()} | {"'": "'", "`": "`"}
_LIKE_ESCAPES = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})

_TOKEN = r"""(?xas)
    (?P<space>\s+)
  | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
  | (?P<quoted>`(?:[^`\\]|``|\\.)*`)
  | (?P<text>'(?:[^'\\]|''|\\.)*')
  | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
  | (?P<sign><=|>=|!=|[=<>().,*\[\]])
"""
_MAX_EXPRESSION = 4_000  # characters; also below the digits at which int() refuses
_MAX_DEPTH = 10  # PostHog's parser takes exponential time on deeply nested calls


def escape_literal(value: object) -> str:
    r"""Return ``value`` as HogQL text that PostHog parses back to exactly that value and nothing else.

    ======================= ================================================================
    None, bool              ``NULL``, ``true``, ``false``
    int                     digits; beyond 64 bits refused, as ClickHouse would round it
    float                   shortest digits that read back; NaN and infinities refused
    Decimal                 as a number, if that is exact; else refused
    str                     ``'...'`` with escapes; NUL and lone surrogates refused
    datetime                ``toDateTime('2024-01-31T23:59:59.000000Z')``; naive means UTC
    date                    ``toDate('2024-01-31')``, 1970-01-01 to 2149-06-06
    UUID                    ``toUUID('...')``
    list, tuple, set        ``(a, b, ...)`` as ``IN`` takes it; empty and nested refused
    ======================= ================================================================

    Raises:
        ValidationError: The value cannot be written exactly.
    """
    if isinstance(value, (list, tuple, set, frozenset)):
        if not value:
            raise ValidationError("An empty list has no HogQL literal: IN () is a syntax error.")
        return _render_list(_constants(value), _literal)
    return _render(_constant(value), _literal)


def escape_like(text: str) -> str:
    r"""Return ``text`` as a LIKE pattern that matches itself: ``%``, ``_`` and ``\`` lose their meaning.

    The result is a value, not HogQL text: ``where("email", "LIKE", f"%{escape_like(part)}%")``.
    """
    return _exact_text(text, "LIKE pattern").translate(_LIKE_ESCAPES)


def quote_identifier(name: str) -> str:
    """Return ``name`` as one HogQL identifier, in backticks where it is not a plain one.

    Raises:
        ValidationError: Not text, or a name for which PostHog has no spelling: empty, ``*``, or with a NUL, a
        lone
            surrogate or ``%``.
    """
    text = _exact_text(name, "name")
    if text in ("", "*"):
        raise ValidationError(f"{text!r} is not a name.")
    if "%" in text:
        raise ValidationError(f"PostHog refuses '%' in names, even in quoted ones: {_short(text)}.")
    if re.fullmatch(_PLAIN_NAME, text) and text.lower() not in _KEYWORDS:
        return text
    return f"`{text.translate(_NAME_ESCAPES)}`"


def quote_path(*parts: str) -> str:
    """Return ``parts`` as one dotted field, for names that come from elsewhere.

    ``quote_path("properties", "odd name")`` is ``properties.`odd name```. The result can be used wherever the
    builder takes a field.

    Raises:
        ValidationError: There is no part, or a part is no name.
    """
    if not parts:
        raise ValidationError("A field needs at least one name.")
    return ".".join([quote_identifier(part) for part in parts])


class QueryBuilder:
    """Builds one SELECT.

    A *field* is a path (``event``, ``properties.$browser``, ``properties['odd name']``) or one of a fixed
    list of functions of paths and literals (``count()``, ``count(DISTINCT person_id)``,
    ``toDate(timestamp)``, ``countIf(event = '$pageview')``). Everything else is refused. For names from
    elsewhere use `quote_path`::

        text, values = (
            QueryBuilder()
            .select("properties.$browser AS browser", "count() AS views")
            .from_("events")
            .where("event", "=", "$pageview")
            .where("timestamp", ">=", datetime(2024, 1, 1))
            .group_by("browser")
            .order_by("views", "DESC")
            .limit(10)
            .build_bound()
        )
        client.query(text, values)

    The methods change the builder and return it; `build` and `build_bound` leave it as it is. There is no
    OFFSET: PostHog refuses it for personal API keys.
    """

    def __init__(self) -> None:
        self._select: list[str] = []
        self._from: str | None = None
        self._where: list[_Condition] = []
        self._group_by: list[str] = []
        self._having: list[_Condition] = []
        self._order_by: list[str] = []
        self._limit: int | None = None

    def select(self, *columns: str | tuple[str, str]) -> QueryBuilder:
        """Add columns.

        Args:
            *columns: ``*``, a field, ``"field AS alias"``, or the pair ``(field, alias)``.

        Raises:
            ValidationError: No column is given, or one cannot be read.
        """
        self._select += [_column(column) for column in _some(columns, "select")]
        return self

    def from_(self, table: str) -> QueryBuilder:
        """Set the table, such as ``events``, ``system.cohorts`` or ``events AS e``.

        Raises:
            ValidationError: It is not the name of a table.
        """
        self._from = _Reader(table, "table").table()
        return self

    def where(self, field: str, operator: str, value: object = ...) -> QueryBuilder:
        """Add a condition that each row must meet.

        Args:
            field: A field; not an aggregate, which belongs into `having`.
            operator: ``= != > < >= <= LIKE ILIKE IN BETWEEN``, ``NOT`` before LIKE, ILIKE and IN, ``IS
                NULL``, ``IS NOT NULL``; in any case.
            value: What to compare with, of the types that `escape_literal` lists. IN takes a list, tuple or
                set: nothing is in an empty one, and None in it finds NULL. BETWEEN takes a pair, LIKE text.
                    Equal to
                None means IS NULL, unequal IS NOT NULL; these two take no value themselves.

        Raises:
            ValidationError: Unknown operator, unreadable field, or a value that does not fit.
        """
        self._where.append(_condition(field, operator, value))
        return self

    def group_by(self, *fields: str) -> QueryBuilder:
        """Add fields, or aliases of columns, to group by.

        Raises:
            ValidationError: No field is given, or one cannot be read.
        """
        self._group_by += [_Reader(field, "field").field() for field in _some(fields, "group_by")]
        return self

    def having(self, field: str, operator: str, value: object = ...) -> QueryBuilder:
        """Add a condition that each group must meet; arguments as for `where`, aggregates included."""
        self._having.append(_condition(field, operator, value))
        return self

    def order_by(self, field: str, direction: str = "ASC") -> QueryBuilder:
        """Add a field, or the alias of a column, to sort by.

        Args:
            field: A field or an alias.
            direction: ``ASC`` or ``DESC``.

        Raises:
            ValidationError: The field cannot be read, or it is another direction.
        """
        way = _keyword(direction, _DIRECTIONS, "direction")
        self._order_by.append(f"{_Reader(field, 'field').field()} {way}")
        return self

    def limit(self, n: int) -> QueryBuilder:
        """Set the most rows to answer; without it PostHog answers 100.

        Raises:
            ValidationError: Not an int, below 0, or above `MAX_LIMIT`.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValidationError(f"LIMIT takes a whole number from 0 to {MAX_LIMIT}, not {_short(n)}.")
        if n > MAX_LIMIT:
            raise ValidationError(
                f"LIMIT {_short(n)} is above {MAX_LIMIT}, to which PostHog cuts every answer without a word. "
                "Read in parts: order by a column and ask for what follows the last row."
            )
        self._limit = int.__index__(n)
        return self

    def build(self) -> str:
        """Return the query as text with escaped literals.

        Raises:
            ValidationError: SELECT or FROM is missing.
        """
        return self._text(_literal)

    def build_bound(self) -> tuple[str, dict[str, Any]]:
        """Return the query as text with ``{p0}``, ``{p1}``, ... and the values that belong there.

        The values are JSON-compatible: dates and UUIDs are text here, and the query converts them.

        Raises:
            ValidationError: SELECT or FROM is missing.
        """
        values: dict[str, Any] = {}

        def bind(value: Scalar) -> str:
            if value is None:
                return "NULL"
            name = f"p{len(values)}"
            values[name] = value
            return f"{{{name}}}"

        return self._text(bind), values

    def _text(self, write: Callable[[Scalar], str]) -> str:
        if not self._select:
            raise ValidationError("The query has no columns: call select().")
        if self._from is None:
            raise ValidationError("The query has no table: call from_().")
        clauses = [
            ("SELECT", ", ".join(self._select)),
            ("FROM", self._from),
            ("WHERE", " AND ".join([condition.text(write) for condition in self._where])),
            ("GROUP BY", ", ".join(self._group_by)),
            ("HAVING", " AND ".join([condition.text(write) for condition in self._having])),
            ("ORDER BY", ", ".join(self._order_by)),
            ("LIMIT", "" if self._limit is None else str(self._limit)),
        ]
        return " ".join([f"{keyword} {content}" for keyword, content in clauses if content])


# Conditions


class _Condition(NamedTuple):
    field: str
    operator: str
    constants: tuple[_Constant, ...] = ()

    def text(self, write: Callable[[Scalar], str]) -> str:
        if self.operator in ("IN", "NOT IN"):
            if not self.constants:
                return "false" if self.operator == "IN" else "true"
            return f"{self.field} {self.operator} {_render_list(self.constants, write)}"
        operands = " AND ".join([_render(constant, write) for constant in self.constants])
        return f"{self.field} {self.operator}" + (f" {operands}" if operands else "")


def _condition(field: str, operator: str, value: object) -> _Condition:
    path = _Reader(field, "field").field()
    name = _keyword(operator, _OPERATORS, "operator")
    if name.endswith("NULL"):
        if value is not ... and value is not None:
            raise ValidationError(f"{name} takes no value, not even {_short(value)}.")
        return _Condition(path, name)
    if value is ...:
        raise ValidationError(f"{path} {name} needs a value.")
    if name.endswith("IN"):
        return _Condition(path, name, _constants(value))
    if name == "BETWEEN":
        return _Condition(path, name, _pair(value))
    if value is None and name in ("=", "!="):
        return _Condition(path, "IS NULL" if name == "=" else "IS NOT NULL")
    if value is None or ("LIKE" in name and not isinstance(value, str)):
        raise ValidationError(f"{name} cannot compare with {_short(value)}; LIKE takes text, NULL only = and !=.")
    return _Condition(path, name, (_constant(value),))


def _pair(value: object) -> tuple[_Constant, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or any(v is None for v in value):
        raise ValidationError(f"BETWEEN takes two values, the lowest and the highest, not {_short(value)}.")
    return _constants(value)


def _keyword(word: object, allowed: frozenset[str], what: str) -> str:
    """Return the one spelling of a fixed word, so that the caller's text never reaches the query."""
    spelling = " ".join(word.split()).upper() if isinstance(word, str) and word.isascii() else None
    if spelling is None or spelling not in allowed:
        raise ValidationError(f"Unknown {what} {_short(word)}. Known: {', '.join(sorted(allowed))}.")
    return spelling


def _some(items: tuple[Any, ...], method: str) -> tuple[Any, ...]:
    if not items:
        raise ValidationError(f"{method}() needs at least one argument.")
    return items


# Values


class _Constant(NamedTuple):
    """A value in its JSON form, and the HogQL function that turns it into its type (None: it has it)."""

    value: Scalar
    function: str | None = None


def _render(constant: _Constant, write: Callable[[Scalar], str]) -> str:
    text = write(constant.value)
    return text if constant.function is None else f"{constant.function}({text})"


def _render_list(constants: tuple[_Constant, ...], write: Callable[[Scalar], str]) -> str:
    return f"({', '.join([_render(constant, write) for constant in constants])})"


def _literal(value: Scalar) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value.translate(_TEXT_ESCAPES)}'"
    return repr(value)


def _constants(values: object) -> tuple[_Constant, ...]:
    if not isinstance(values, (list, tuple, set, frozenset)):
        raise ValidationError(f"IN takes a list, a tuple or a set of values, not {_short(values)}.")
    constants = [_constant(value) for value in values]
    if isinstance(values, (set, frozenset)):
        # One text for equal sets, so that PostHog's cache knows it again.
        constants.sort(key=lambda constant: _render(constant, _literal))
    return tuple(constants)


def _constant(value: object) -> _Constant:
    """Reduce a value to a plain one of exactly its content, whatever a subclass of its type would print."""
    if value is None or isinstance(value, bool):
        return _Constant(value)
    if isinstance(value, int):
        return _Constant(_whole(int.__index__(value)))
    if isinstance(value, float):
        return _Constant(_finite(float.__float__(value)))
    if isinstance(value, str):
        return _Constant(_exact_text(value, "text"))
    if _is_a(value, "datetime", "datetime"):
        return _Constant(_moment(cast("datetime", value)), "toDateTime")
    if _is_a(value, "datetime", "date"):
        return _Constant(_day(cast("date", value)), "toDate")
    if _is_a(value, "uuid", "UUID"):
        return _Constant(str(value), "toUUID")
    if _is_a(value, "decimal", "Decimal"):
        return _Constant(_decimal(value))
    raise ValidationError(
        f"No HogQL constant for {_short(value)}. Known: None, bool, int, float, Decimal, str, date, datetime, "
        "UUID; for IN a list, tuple or set of these. Of numpy's numbers, pass what .item() gives."
    )


def _is_a(value: object, module: str, name: str) -> bool:
    """Tell whether ``value`` is of a class whose module need not be loaded: unloaded, it has no instances."""
    return isinstance(value, getattr(sys.modules.get(module), name, ()))


def _whole(value: int) -> int:
    if not -(2**63) <= value < 2**64:
        raise ValidationError("ClickHouse rounds whole numbers beyond 64 bits: pass this one as text.")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValidationError(f"{value} cannot be compared with: leave the condition out, or test for NULL.")
    return value


def _decimal(value: Any) -> int | float:
    number = float(value) if value.is_finite() else math.nan
    if math.isfinite(number) and value.adjusted() < 20 and value == value.to_integral_value():
        return _whole(int(value))
    if not math.isfinite(number) or value != type(value)(repr(number)):
        raise ValidationError(f"{_short(value)} has no exact HogQL number: pass a float or text.")
    return number


def _exact_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"A {what} must be text, not {_short(value)}.")
    text = str.__str__(value)
    if "\0" in text:
        raise ValidationError(f"The {what} {_short(text)} holds a NUL, which PostHog would drop without a word.")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValidationError(f"The {what} {_short(text)} holds half a character (a lone surrogate).")
    return text


def _moment(value: datetime) -> str:
    """Write a moment in UTC, with its zone: PostHog reads a time without one in the project's."""
    from datetime import timezone

    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    if not 1900 < value.year < 2299:
        raise ValidationError(f"ClickHouse has no {_short(value)}: moments go from 1901 to 2298.")
    if getattr(value, "nanosecond", 0):
        raise ValidationError(f"PostHog keeps microseconds, and {_short(value)} has nanoseconds: round it first.")
    return value.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _day(value: date) -> str:
    text = value.isoformat()
    if not "1970-01-01" <= text <= "2149-06-06":
        raise ValidationError(f"ClickHouse has no {text}: days go from 1970-01-01 to 2149-06-06.")
    return text


def _short(value: object) -> str:
    """Show what was given, in a few words, even if its repr fails."""
    try:
        shown = repr(value)
    except Exception:
        shown = ""
    return shown if 0 < len(shown) <= 80 else f"this {type(value).__name__}"


# Columns


def _column(column: str | tuple[str, str]) -> str:
    if isinstance(column, tuple):
        if len(column) != 2:
            raise ValidationError(f"A column is text or a pair (field, alias), not {_short(column)}.")
        return f"{_Reader(column[0], 'column').field()} AS {_alias(column[1])}"
    return _Reader(column, "column").column()


def _alias(name: str) -> str:
    quoted = quote_identifier(name)
    if str.lower(name) in _RESERVED_ALIASES:
        raise ValidationError(f"PostHog reserves {name!r}: choose another alias.")
    return quoted


class _Token(NamedTuple):
    kind: str
    value: str
    start: int


class _Reader:
    """Reads one expression from left to right and writes it anew: what it does not know cannot slip through.

    ::

        column   = "*" | field ["AS" name]
        table    = path ["AS" name]
        field    = path | call
        path     = name { "." name | "[" text "]" }
        call     = function "(" [ "*" | ["DISTINCT"] argument { "," argument } ] ")"
        argument = operand [ ("=" | "!=" | "<" | ...) operand ]
        operand  = field | text | number | "true" | "false" | "null"
    """

    def __init__(self, text: str, what: str) -> None:
        self.text = _exact_text(text, what)
        self.what = what
        if len(self.text) > _MAX_EXPRESSION:
            raise ValidationError(f"This {what} has {len(self.text)} characters, more than {_MAX_EXPRESSION}.")
        self.tokens = self._tokenize()
        self.at = 0
        self.depth = 0

    def column(self) -> str:
        return self._finish("*" if self._accept("*") else self._field() + self._as())

    def table(self) -> str:
        return self._finish(self._path() + self._as())

    def field(self) -> str:
        return self._finish(self._field())

    def _as(self) -> str:
        return f" AS {_alias(self._name())}" if self._accept_word("as") else ""

    def _field(self) -> str:
        return self._call() if self._next_is("(") else self._path()

    def _path(self) -> str:
        parts = [self._name()]
        while True:
            if self._accept("."):
                parts.append(self._name())
            elif self._accept("["):
                parts.append(self._take("text"))
                self._expect("]")
            else:
                return quote_path(*parts)

    def _call(self) -> str:
        name = self._take("name")
        if name not in _FUNCTIONS:
            raise ValidationError(f"Cannot use {self.what} {_short(self.text)}: {_unknown_function(name)}")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self._fail(f"at most {_MAX_DEPTH} nested calls")
        self._expect("(")
        arguments = "" if self._accept(")") else self._arguments(name)
        self.depth -= 1
        return f"{name}({arguments})"

    def _arguments(self, name: str) -> str:
        if name == "count" and self._accept("*"):
            self._expect(")")
            return ""  # count() is HogQL's own spelling of it
        is_word = self._next_kind in ("name", "quoted")  # else it is a column of that name
        distinct = "DISTINCT " if is_word and self._accept_word("distinct") else ""
        arguments = [self._argument()]
        while not self._accept(")"):
            self._expect(",")
            arguments.append(self._argument())
        return distinct + ", ".join(arguments)

    def _argument(self) -> str:
        written = self._operand()
        for sign in _COMPARISONS:
            if self._accept(sign):
                return f"{written} {sign} {self._operand()}"
        return written

    def _operand(self) -> str:
        kind, value, _ = self._token
        if kind == "text":
            return escape_literal(self._take("text"))
        if kind == "number":
            self.at += 1
            return escape_literal(int(value) if value.lstrip("-").isdigit() else float(value))
        if self._next_kind != "sign" or self._next_is(",", ")", *_COMPARISONS):
            for word, constant in _LITERAL_WORDS.items():
                if self._accept_word(word):
                    return escape_literal(constant)
        return self._field()

    # Tokens

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        pattern = re.compile(_TOKEN)
        at = 0
        while at < len(self.text):
            match = pattern.match(self.text, at)
            if match is None:
                raise ValidationError(
                    f"Cannot read the {self.what} {_short(self.text)} at character {at}. "
                    "Put a name with such characters in backticks or use quote_path(); pass data as a value."
                )
            kind, value = match.lastgroup or "", match.group()
            if kind in ("quoted", "text"):
                value = self._unescape(value)
            if kind != "space":
                tokens.append(_Token(kind, value, at))
            at = match.end()
        return [*tokens, _Token("end", "", at), _Token("end", "", at)]  # two, as the reader looks one ahead

    def _unescape(self, quoted: str) -> str:
        def plain(match: re.Match[str]) -> str:
            escape = match.group()
            if escape[1] not in _UNESCAPES:
                raise ValidationError(
                    f"The {self.what} {_short(self.text)} holds {escape!r}, which HogQL does not know."
                )
            return _UNESCAPES[escape[1]]

        quote = quoted[0]
        return re.sub(rf"\\.|{quote}{quote}", plain, quoted[1:-1], flags=re.DOTALL)

    @property
    def _token(self) -> _Token:
        return self.tokens[self.at]

    @property
    def _next_kind(self) -> str:
        return self.tokens[self.at + 1].kind

    def _next_is(self, *signs: str) -> bool:
        return self._next_kind == "sign" and self.tokens[self.at + 1].value in signs

    def _accept(self, sign: str) -> bool:
        found = self._token.kind == "sign" and self._token.value == sign
        self.at += found
        return found

    def _accept_word(self, word: str) -> bool:
        found = self._token.kind == "name" and self._token.value.lower() == word
        self.at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            self._fail(repr(sign))

    def _name(self) -> str:
        return self._take("quoted" if self._token.kind == "quoted" else "name")

    def _take(self, kind: str) -> str:
        token = self._token
        if token.kind != kind:
            self._fail("a key in single quotes" if kind == "text" else f"a {kind}")
        self.at += 1
        return token.value

    def _finish(self, written: str) -> str:
        if self._token.kind != "end":
            self._fail("the end")
        return written

    def _fail(self, expected: str) -> NoReturn:
        kind, value, start = self._token
        found = "the end" if kind == "end" else repr(value)
        raise ValidationError(
            f"Cannot read the {self.what} {_short(self.text)}: expected {expected} at character {start}, found {found}."
        )


def _unknown_function(name: str) -> str:
    import difflib

    by_lower = {known.lower(): known for known in _FUNCTIONS}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"Did you mean {by_lower[near[0]]}()? " if near else ""
    return f"{name}() is not in the builder's list. {hint}Write the query as text, with values for the data."
