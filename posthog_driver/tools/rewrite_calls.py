"""Rules for functions, casts and operators that PostHog does not have, or has under another name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from posthog_driver.tools.hogql_text import HogQLText, Span

__all__ = ["CALL_RULES", "Change", "Rule", "likely_function"]


class Change(NamedTuple):
    """Text to put in place of ``query[start:end]``, why, and the kind of error that it mends."""

    start: int
    end: int
    text: str
    why: str
    kind: str


Rule = Callable[[HogQLText], Iterator[Change]]

_WIDTHS = re.compile(r"to(U?Int|Float|Decimal)(8|16|32|64|128|256)?(OrNull|OrZero)?", re.IGNORECASE)
_DATES = re.compile(r"toDate(Time)?(?:32|64)?(?:OrNull|OrZero)", re.IGNORECASE)
_JSON = ("json_extract", "json_extract_scalar", "json_value", "json_extract_path_text", "get_json_object")
_UNITS = frozenset(("second", "minute", "hour", "day", "week", "month", "quarter", "year"))
_PARTS = {
    "year": "toYear", "quarter": "toQuarter", "month": "toMonth", "week": "toISOWeek", "day": "toDayOfMonth",
    "dow": "toDayOfWeek", "isodow": "toDayOfWeek", "doy": "toDayOfYear", "hour": "toHour", "minute": "toMinute",
    "second": "toSecond", "epoch": "toUnixTimestamp",
}  # fmt: skip
# Other dialects' names for functions that take the same arguments.
_RENAMED = {
    "nvl": "ifNull", "len": "length", "char_length": "length", "array_length": "length", "substr": "substring",
    "any_value": "any", "approx_count_distinct": "uniq", "approx_distinct": "uniq", "stddev": "stddevSamp",
    "variance": "varSamp", "iff": "if", "unix_timestamp": "toUnixTimestamp", "to_timestamp": "toDateTime",
    "regexp_like": "match", "regexp_matches": "match", "regexp_replace": "replaceRegexpAll",
    "regexp_extract": "extract", "cardinality": "bitmapCardinality", "bool_and": "min", "bool_or": "max",
    "date": "toDate", "year": "toYear", "quarter": "toQuarter", "month": "toMonth", "dayofweek": "toDayOfWeek",
    "hour": "toHour", "getdate": "now", "sysdate": "now", "curdate": "today", "current_date": "today",
    "group_uniq_array": "groupUniqArray", "array_join": "arrayJoin",
}  # fmt: skip
# Functions that models write in snake_case or in another case; those with one lower-case word are not needed here.
_CAMEL = """
    countIf sumIf avgIf minIf maxIf anyIf uniqIf uniqExact uniqExactIf quantileIf quantilesExact quantileExact medianIf
    groupArray groupUniqArray groupArrayIf groupUniqArrayIf argMin argMax argMinIf argMaxIf countDistinct anyLast
    windowFunnel retention sequenceMatch sequenceCount stddevPop stddevSamp varPop varSamp sumMap topK
    toDate toDateTime toString toInt toFloat toBool toUUID toDecimal toTimeZone toYear toQuarter toMonth toDayOfMonth
    toDayOfWeek toDayOfYear toHour toMinute toSecond toISOWeek toISOYear toWeek toYearWeek toUnixTimestamp toYYYYMM
    toYYYYMMDD toMonday toStartOfDay toStartOfHour toStartOfMinute toStartOfWeek toStartOfMonth toStartOfQuarter
    toStartOfYear toStartOfInterval toStartOfFiveMinutes toStartOfFifteenMinutes toLastDayOfMonth toIntervalDay
    toIntervalHour toIntervalMinute toIntervalSecond toIntervalWeek toIntervalMonth toIntervalYear dateTrunc dateDiff
    dateAdd dateSub dateName addDays addHours addMinutes addSeconds addWeeks addMonths addYears subtractDays
    subtractHours subtractMinutes subtractWeeks subtractMonths subtractYears formatDateTime fromUnixTimestamp
    parseDateTimeBestEffort ifNull nullIf isNull isNotNull assumeNotNull toNullable multiIf splitByChar splitByString
    splitByRegexp arrayJoin arrayMap arrayFilter arrayExists arrayAll arraySort arrayReverseSort arrayDistinct
    arrayElement arrayConcat arrayStringConcat arraySum arrayAvg arrayMin arrayMax arrayCount arrayEnumerate
    arrayZip arraySlice arrayReduce hasAll hasAny indexOf notEmpty startsWith endsWith lowerUTF8 upperUTF8 lengthUTF8
    substringUTF8 replaceOne replaceAll replaceRegexpOne replaceRegexpAll extractAll multiSearchAny
    positionCaseInsensitive countSubstrings trimLeft trimRight trimBoth leftPad rightPad concatWithSeparator intDiv
    JSONExtract JSONExtractString JSONExtractInt JSONExtractFloat JSONExtractBool JSONExtractRaw JSONExtractArrayRaw
    JSONHas JSONLength JSONExtractKeys lagInFrame leadInFrame rowNumberInAllBlocks
    cutQueryString cutURLParameter extractURLParameter domainWithoutWWW topLevelDomain bitmapCardinality
    groupBitmap rand generateUUIDv4 cityHash64 formatReadableSize bitAnd bitOr
"""


def _flat(name: str) -> str:
    return name.replace("_", "").lower()


_BY_FLAT = {_flat(name): name for name in _CAMEL.split()}
# PostHog takes these in any case, and those in this one.
_ANY_CASE = ("count", "sum", "avg", "min", "max", "now", "coalesce", "ifnull", "nullif", "if", "rand", "retention")
_LOWER_CASE = ("to_date", "date_diff", "date_trunc")


def likely_function(name: str) -> str | None:
    """Return the HogQL function that a name of another dialect or in another case means."""
    return _RENAMED.get(name.lower()) or _BY_FLAT.get(_flat(name))


def _names(text: HogQLText) -> Iterator[Change]:
    """``to_start_of_week``, ``COUNT_IF``, ``countif``, and other dialects' names."""
    for at, arguments in text.calls():
        token = text.tokens[at]
        meant = likely_function(token.text)
        if meant is None or meant == token.text or token.low in _ANY_CASE or token.text in _LOWER_CASE:
            continue
        if token.low in ("cardinality", "date") and len(arguments) != 1:
            continue
        if token.low in (*_JSON, "isnull") and len(arguments) == 2:
            continue
        why = f"functions are written exactly: {meant}"
        yield Change(token.start, token.end, meant, why, "unknown_function")


def _widths(text: HogQLText) -> Iterator[Change]:
    """``toFloat64``, ``toInt32OrZero``, ``toFloatOrNull``: conversions have no width, and are NULL where they fail."""
    for at, arguments in text.calls():
        token = text.tokens[at]
        match = _WIDTHS.fullmatch(token.text)
        if match is None or not arguments:
            continue
        name = {"float": "toFloat", "decimal": "toDecimal"}.get(match[1].lower(), "toInt")
        if token.text == name:
            continue
        why = f"conversions have no width and give NULL where they fail: {name}"
        if (match[3] or "").lower() == "orzero" and name != "toDecimal":
            inner = text.source(Span(arguments[0].first, arguments[-1].last))
            yield Change(token.start, text.call_end(at), f"coalesce({name}({inner}), 0)", why, "unknown_function")
        else:
            yield Change(token.start, token.end, name, why, "unknown_function")


def _dates(text: HogQLText) -> Iterator[Change]:
    """``toDateOrNull(timestamp)`` and ``toDate(x, 'tz')``."""
    for at, arguments in text.calls():
        token = text.tokens[at]
        match = _DATES.fullmatch(token.text)
        if match is not None:
            name = "toDateTime" if match[1] else "toDate"
            why = f"the OrNull and OrZero forms take text alone; {name} takes a timestamp too"
            yield Change(token.start, token.end, name, why, "unknown_function")
        elif token.text == "toDate" and len(arguments) == 2:
            value, zone = map(text.source, arguments)
            why = "toDate takes no time zone: convert with toTimeZone first"
            yield Change(token.start, text.call_end(at), f"toDate(toTimeZone({value}, {zone}))", why, "wrong_arity")


def _neighbours(text: HogQLText) -> Iterator[Change]:
    """``LAG`` and ``LEAD``: the frame functions with the whole frame, and NULL where there is no such row."""
    for at, arguments in text.calls("lag", "lead"):
        end = text.partners[at + 1] + 1
        if not text.is_at(end, "over", "(") or end + 1 not in text.partners or not arguments:
            continue
        name = f"{text.tokens[at].low}InFrame"
        values = [text.source(argument) for argument in arguments]
        if len(values) < 3:
            values[0] = f"toNullable({values[0]})"
        inside = Span(end + 2, text.partners[end + 1])
        window = text.source(inside)
        if not any(text.tokens[word].low in ("rows", "range") for word in text.at_top(inside)):
            window = f"{window} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".strip()
        yield Change(
            text.tokens[at].start,
            text.tokens[inside.last].end,
            f"{name}({', '.join(values)}) OVER ({window})",
            f"{name} with the whole frame is what LAG and LEAD are elsewhere",
            "unknown_function",
        )


def _splits(text: HogQLText) -> Iterator[Change]:
    """``split(text, separator)``, in either order of arguments."""
    for at, arguments in text.calls("split"):
        if len(arguments) != 2:
            continue
        value, separator = map(text.source, arguments)
        if _is_string(text, arguments[0]) and not _is_string(text, arguments[1]):
            value, separator = separator, value
        name = "splitByChar" if re.fullmatch(r"'([^'\\]|\\.|'')'", separator) else "splitByString"
        why = f"split is {name}(separator, text), and the text must not be NULL"
        made = f"{name}({separator}, coalesce({value}, ''))"
        yield Change(text.tokens[at].start, text.call_end(at), made, why, "unknown_function")


def _extremes(text: HogQLText) -> Iterator[Change]:
    """``greatest`` and ``least`` of more than two."""
    for at, arguments in text.calls("greatest", "least"):
        if len(arguments) > 2:
            name = text.tokens[at].low
            nested = text.source(arguments[-1])
            for argument in reversed(arguments[:-1]):
                nested = f"{name}({text.source(argument)}, {nested})"
            yield Change(
                text.tokens[at].start, text.call_end(at), nested, f"{name} takes two arguments: nest it", "wrong_arity"
            )


def _weeks(text: HogQLText) -> Iterator[Change]:
    """``toStartOfWeek(x, 'Mon')``: the mode is a number."""
    for _, arguments in text.calls("tostartofweek", "toweek", "to_start_of_week"):
        if len(arguments) > 1 and _is_string(text, arguments[1]):
            token = text.tokens[arguments[1].first]
            mode = "0" if token.text[1:4].lower() == "sun" else "1"
            yield Change(token.start, token.end, mode, "the mode of a week is a number: 1 Monday, 0 Sunday", "type")


def _date_parts(text: HogQLText) -> Iterator[Change]:
    """``DATEDIFF(day, a, b)``, ``DATE_TRUNC('week', x)``, ``EXTRACT(MONTH FROM x)``."""
    for at, arguments in text.calls("datediff", "date_diff", "dateadd", "date_add", "datetrunc", "date_trunc"):
        token = text.tokens[at]
        name = _BY_FLAT[_flat(token.text)]
        if arguments and text.tokens[arguments[0].first].low in _UNITS and arguments[0].last == arguments[0].first + 1:
            unit = text.tokens[arguments[0].first]
            yield Change(unit.start, unit.end, f"'{unit.low}'", f"the unit of {name} is text", "syntax")
        if token.text not in (name, "date_trunc", "date_diff"):
            yield Change(token.start, token.end, name, f"functions are written exactly: {name}", "unknown_function")
    for at, arguments in text.calls("extract"):
        if len(arguments) == 1 and text.is_at(arguments[0].first + 1, "from"):
            function = _PARTS.get(text.tokens[arguments[0].first].low)
            if function is not None:
                value = text.source(Span(arguments[0].first + 2, arguments[0].last))
                yield Change(
                    text.tokens[at].start, text.call_end(at), f"{function}({value})", f"EXTRACT is {function}", "syntax"
                )


def _aggregates(text: HogQLText) -> Iterator[Change]:
    """``STRING_AGG``, ``PERCENTILE_CONT(...) WITHIN GROUP``, ``quantile(x, 0.9)``."""
    for at, arguments in text.calls("string_agg", "group_concat", "listagg"):
        if 1 <= len(arguments) <= 2:
            separator = text.source(arguments[1]) if len(arguments) == 2 else "','"
            made = f"arrayStringConcat(groupArray({text.source(arguments[0])}), {separator})"
            why = "texts are joined by arrayStringConcat(groupArray(x), ',')"
            yield Change(text.tokens[at].start, text.call_end(at), made, why, "unknown_function")
    for at, arguments in text.calls("concat_ws"):
        if len(arguments) > 1:
            parts = ", ".join(text.source(argument) for argument in arguments[1:])
            made = f"arrayStringConcat([{parts}], {text.source(arguments[0])})"
            yield Change(
                text.tokens[at].start, text.call_end(at), made, "CONCAT_WS is arrayStringConcat", "unknown_function"
            )
    for at, arguments in text.calls("percentile_cont", "percentile_disc"):
        group = text.partners[at + 1] + 1
        if text.is_at(group, "within", "group", "(", "order", "by") and group + 2 in text.partners and arguments:
            close = text.partners[group + 2]
            value = text.source(Span(group + 5, close))
            made = f"quantile({text.source(arguments[0])})({value})"
            yield Change(
                text.tokens[at].start, text.tokens[close].end, made, "percentiles are quantile(0.9)(x)", "syntax"
            )
    for at, arguments in text.calls("quantile", "percentile", "approx_percentile", "quantileexact"):
        if len(arguments) == 2 and text.tokens[arguments[1].first].kind == "number":
            value, level = map(text.source, arguments)
            kind = "wrong_arity" if text.tokens[at].low.startswith("quantile") else "unknown_function"
            made = f"quantile({level})({value})"
            yield Change(
                text.tokens[at].start, text.call_end(at), made, "the level is a parameter: quantile(0.9)(x)", kind
            )
    for at, arguments in text.calls("isnull"):
        if len(arguments) == 2:
            token = text.tokens[at]
            yield Change(token.start, token.end, "ifNull", "two arguments are ifNull's", "wrong_arity")


def _stars(text: HogQLText) -> Iterator[Change]:
    """``count(*)``."""
    for at, arguments in text.calls("count"):
        if [text.source(argument) for argument in arguments] == ["*"]:
            start, end = text.tokens[at + 1].start, text.call_end(at)
            yield Change(start, end, "()", "count takes no star: count()", "syntax")


def _json(text: HogQLText) -> Iterator[Change]:
    """``properties->foo``, ``properties->>'foo'``, ``JSON_EXTRACT(properties, '$.foo')``."""
    for at, token in enumerate(text.tokens):
        after = text.tokens[at + 1] if at + 1 < len(text.tokens) else None
        if token.text not in ("->", "->>") or at == 0 or after is None or after.kind not in ("word", "string"):
            continue
        if text.tokens[at - 1].kind == "word" and _is_in_properties(text, at - 1):
            key = after.text if after.kind == "word" else after.text[1:-1]
            yield Change(token.start, after.end, _key(key), "a property is read as properties.name", "syntax")
    for at, arguments in text.calls(*_JSON):
        if len(arguments) == 2 and _is_string(text, arguments[1]):
            path = text.tokens[arguments[1].first].text[1:-1]
            path = path[2:] if path.startswith("$.") else path
            made = text.source(arguments[0]) + "".join(_key(key) for key in path.split("."))
            if text.source(arguments[0]).lower().endswith("properties"):
                yield Change(
                    text.tokens[at].start,
                    text.call_end(at),
                    made,
                    "a property is read as properties.name",
                    "unknown_function",
                )


def _is_in_properties(text: HogQLText, at: int) -> bool:
    """Return whether the word at a position is the end of a chain ``properties.a.b``."""
    while text.is_name(at) and at >= 2 and text.tokens[at].low != "properties":
        at -= 2
    return text.tokens[at].low == "properties"


def _key(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", name):
        return f".{name}"
    return f"['{name}']"


def _is_string(text: HogQLText, span: Span) -> bool:
    return span.last == span.first + 1 and text.tokens[span.first].kind == "string"


CALL_RULES: tuple[Rule, ...] = (
    _stars, _widths, _dates, _neighbours, _splits, _extremes, _weeks, _date_parts, _aggregates, _json, _names,
)  # fmt: skip
