"""Rules for clauses, literals and operators: what other SQL has and HogQL has not, or in another order."""

from __future__ import annotations

import re
from collections.abc import Iterator

from posthog_driver.tools.hogql_text import HogQLText, Select, Span
from posthog_driver.tools.rewrite_calls import Change, Rule
from posthog_driver.tools.rewrite_casts import operand_before

__all__ = ["AGGREGATES", "CLAUSE_RULES", "has_aggregate"]

# Tables of the newer data planes, which are found under their prefix alone.
_PREFIXED = frozenset(("ai_events", "trace_spans", "flag_evaluations"))
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("bfrnt0av\\'`\"x\n")
_INEQUALITIES = ("<", ">", "<=", ">=", "!=", "<>")
_UNITS = frozenset(("seconds", "minutes", "hours", "days", "weeks", "months", "quarters", "years"))
AGGREGATES = re.compile(
    r"(?:count|sum|avg|min|max|any|anyLast|uniq\w*|median\w*|quantiles?\w*|group(?:Uniq|Bit)?(?:Array|map|And|Or)?\w*"
    r"|arg(?:Min|Max)|stddev\w+|var(?:Pop|Samp)|topK\w*|countDistinct|array_agg|string_agg|windowFunnel|retention"
    r"|sequence\w+|corr\w*|covar\w+|entropy|skew\w+|kurt\w+|sumMap|avgWeighted|first_value|last_value)"
    r"(?:Distinct)?(?:If|Merge|State|OrNull|OrDefault)*",
    re.IGNORECASE,
)

_SCALAR = re.compile(
    r"to[A-Z]\w*|date\w*|lower|upper|coalesce|if(?:Null)?|multiIf|concat|substring|splitBy\w+|replace\w*|round"
)


def has_aggregate(text: HogQLText, span: Span) -> bool:
    """Return whether a span calls an aggregate function outside sub-queries and windows."""
    for at in range(span.first, span.last):
        if text.is_at(at, "select"):
            return False
        if text.tokens[at].kind != "word" or not text.is_at(at + 1, "(") or at + 1 not in text.partners:
            continue
        after = text.partners[at + 1] + 1
        if AGGREGATES.fullmatch(text.tokens[at].text) and not text.is_at(after, "over"):
            return True
    return False


# What ends a query ----------------------------------------------------------------------------------------------------


def _semicolon(text: HogQLText) -> Iterator[Change]:
    if text.tokens and text.tokens[-1].text == ";":
        last = text.tokens[-1]
        yield Change(last.start, last.end, "", "no semicolon at the end", "syntax")


def _settings(text: HogQLText) -> Iterator[Change]:
    """``SETTINGS x = 1`` and ``FORMAT JSON``."""
    for select in text.selects:
        for clause in select.clauses:
            is_settings = clause.name == "settings" and text.is_at(clause.body.first + 1, "=")
            is_format = clause.name == "format" and clause.body.last == clause.body.first + 1 == len(text.tokens)
            if is_settings or is_format:
                start = text.tokens[clause.at].start
                why = f"{clause.name.upper()} is PostHog's to choose: leave it out"
                yield Change(start, text.tokens[clause.body.last - 1].end, "", why, "syntax")


def _limits(text: HogQLText) -> Iterator[Change]:
    """``TOP n``, ``FETCH FIRST n ROWS ONLY``, and ``OFFSET``, which keys may not use."""
    for select in text.selects:
        head = select.clauses[0].body.first
        if text.is_at(head, "top") and head + 1 < select.span.last and text.tokens[head + 1].kind == "number":
            number = text.tokens[head + 1].text
            end = text.tokens[select.span.last - 1].end
            rest = text.text[text.tokens[head + 1].end : end].lstrip()
            start = text.tokens[head].start
            yield Change(start, end, f"{rest} LIMIT {number}", "TOP n is LIMIT n at the end", "syntax")
        fetch = select.clause("fetch")
        if fetch is not None:
            numbers = [
                token.text for token in text.tokens[fetch.body.first : fetch.body.last] if token.kind == "number"
            ]
            if len(numbers) == 1:
                end = text.tokens[fetch.body.last - 1].end
                why = "FETCH FIRST n ROWS is LIMIT n"
                yield Change(text.tokens[fetch.at].start, end, f"LIMIT {numbers[0]}", why, "syntax")
        yield from _offset(text, select)


def _offset(text: HogQLText, select: Select) -> Iterator[Change]:
    limit, offset = select.clause("limit"), select.clause("offset")
    if limit is None or any(text.is_at(at, "by") for at in range(limit.at, limit.body.last)):
        return
    if offset is None:
        numbers, last = text.tokens[limit.body.first : limit.body.last : 2], limit.body.last
        is_pair = limit.body.last - limit.body.first == 3 and text.is_at(limit.body.first + 1, ",")
    else:
        numbers = (text.tokens[limit.body.first], text.tokens[offset.body.first])
        last, is_pair = offset.body.last, offset.at == limit.body.last == limit.body.first + 1
    if is_pair and last > limit.at and all(token.kind == "number" for token in numbers):
        total = sum(int(token.text) for token in numbers if token.text.isdigit())
        skipped = numbers[1].text if offset is not None else numbers[0].text
        yield Change(
            text.tokens[limit.at].start,
            text.tokens[last - 1].end,
            f"LIMIT {total}",
            f"OFFSET is refused: take the rows before as well and skip the first {skipped} of them, or go on after the "
            "last row's timestamp with WHERE timestamp > ...",
            "not_allowed",
        )


# Order of clauses, joins ----------------------------------------------------------------------------------------------


def _where_before_join(text: HogQLText) -> Iterator[Change]:
    for select in text.selects:
        where, origin = select.clause("where"), select.clause("from")
        joins = text.joins(where.body) if where is not None else []
        if where is None or origin is None or not joins or where.at < origin.at:
            continue
        condition = text.source(Span(where.body.first, joins[0].at))
        tables = text.source(Span(joins[0].at, where.body.last))
        again = [clause for clause in select.clauses if clause.name == "where"]
        start, end = text.tokens[where.at].start, text.tokens[where.body.last - 1].end
        made = f"{tables} WHERE {condition}"
        if len(again) > 1 and again[1].at == where.body.last:
            end = text.tokens[again[1].body.last - 1].end
            made = f"{tables} WHERE ({condition}) AND ({text.source(again[1].body)})"
        yield Change(start, end, made, "WHERE comes after all JOINs", "syntax")


def _join_inequality(text: HogQLText) -> Iterator[Change]:
    """Comparisons in JOIN ... ON go to WHERE; without an equality that is left, the join becomes a CROSS JOIN."""
    for select in text.selects:
        origin = select.clause("from")
        for join in text.joins(origin.body) if origin is not None else []:
            if origin is None or join.on is None or set(join.words) - {"inner"}:
                continue
            parts = text.items(join.on, "and")
            moved = [part for part in parts if _compares(text, part)]
            if moved and not any(text.is_at(at, "or") for at in text.at_top(join.on)):
                kept = " AND ".join(text.source(part) for part in parts if part not in moved)
                table = text.source(join.table)
                made = f"JOIN {table} ON {kept}" if kept else f"CROSS JOIN {table}"
                rest = Span(join.on.last, origin.body.last)
                condition = " AND ".join(text.source(part) for part in moved)
                made, end = _with_condition(text, select, f"{made} {text.source(rest)}".strip(), rest, condition)
                why = "JOIN ... ON takes equality alone: comparisons go to WHERE"
                yield Change(text.tokens[join.at].start, end, made, why, "join_inequality")


def _compares(text: HogQLText, part: Span) -> bool:
    return any(text.tokens[at].text in _INEQUALITIES or text.is_at(at, "between") for at in text.at_top(part))


def _with_condition(text: HogQLText, select: Select, made: str, rest: Span, condition: str) -> tuple[str, int]:
    """Put a condition into WHERE; return the text up to its end, and where that is in the query."""
    where = select.clause("where")
    if where is None:
        return f"{made} WHERE {condition}", text.tokens[rest.last - 1].end
    between = text.source(Span(rest.last, where.at))
    made = f"{made} {between}".strip()
    return f"{made} WHERE ({text.source(where.body)}) AND {condition}", text.tokens[where.body.last - 1].end


def _tables(text: HogQLText) -> Iterator[Change]:
    """Tables that need their prefix, and a ``users`` table, which is ``persons``."""
    for select in text.selects:
        for at, name, alias in text.tables(select):
            token = text.tokens[at]
            if name in text.tables_known or any(text.is_at(other, name, "as", "(") for other in range(at)):
                continue
            if name in _PREFIXED:
                meant, why = f"posthog.{name}", f"the table is posthog.{name}"
            elif name.lower() in ("users", "user"):
                meant, why = "persons", "people are in persons; one user is one person"
            else:
                continue
            if alias == name and _is_qualifier(text, name) and not text.is_at(at + 1, "as"):
                meant = f"{meant} AS {name}"
            yield Change(token.start, token.end, meant, why, "unknown_table")


def _is_qualifier(text: HogQLText, name: str) -> bool:
    return any(token.text == name and text.is_at(at + 1, ".") for at, token in enumerate(text.tokens))


def _aggregate_in_where(text: HogQLText) -> Iterator[Change]:
    """``WHERE count() > 5``: such conditions go to HAVING."""
    for select in text.selects:
        where, group, having = select.clause("where"), select.clause("group"), select.clause("having")
        if where is None or group is None or having is not None or group.at < where.at:
            continue
        if any(text.is_at(at, "or") for at in text.at_top(where.body)):
            continue
        parts = text.items(where.body, "and")
        moved = [part for part in parts if has_aggregate(text, part) or _uses_aggregate(text, select, part)]
        if moved:
            kept = " AND ".join(text.source(part) for part in parts if part not in moved)
            condition = " AND ".join(text.source(part) for part in moved)
            groups = text.source(Span(where.body.last, group.body.last))
            made = f"{f'WHERE {kept} ' if kept else ''}{groups} HAVING {condition}"
            end = text.tokens[group.body.last - 1].end
            yield Change(text.tokens[where.at].start, end, made, "conditions on aggregates go to HAVING", "aggregation")


def _uses_aggregate(text: HogQLText, select: Select, part: Span) -> bool:
    """Return whether a condition names an alias of an aggregate of the SELECT."""
    names = {text.tokens[at].text for at in range(part.first, part.last) if text.tokens[at].kind == "word"}
    items = text.items(select.clauses[0].body)
    return any(text.tokens[item.last - 1].text in names and has_aggregate(text, item) for item in items)


def _missing_group(text: HogQLText) -> Iterator[Change]:
    """``SELECT event, count() FROM events`` without GROUP BY."""
    for select in text.selects:
        origin = select.clause("from")
        if origin is None or select.clause("group") is not None:
            continue
        items = text.items(select.clauses[0].body)
        plain = [item for item in items if not has_aggregate(text, item)]
        if not plain or len(plain) == len(items) or text.is_at(items[0].first, "distinct"):
            continue
        keys = [_without_alias(text, item) for item in plain]
        if any(not _is_column(text, item) or _uses_aggregate(text, select, item) for item in plain):
            continue
        before = [clause for clause in select.clauses if clause.name in ("from", "prewhere", "where")]
        end = text.tokens[before[-1].body.last - 1].end
        made = f" GROUP BY {', '.join(keys)}"
        yield Change(end, end, made, "what is selected beside aggregates goes to GROUP BY", "aggregation")


def _without_alias(text: HogQLText, item: Span) -> str:
    name = next((at for at in text.at_top(item) if text.is_at(at, "as")), None)
    if name is not None:
        return text.source(Span(name + 1, item.last))
    return text.source(item)


def _is_column(text: HogQLText, item: Span) -> bool:
    """Return whether an item depends on the row alone: literals and sub-queries need no GROUP BY."""
    tokens = text.tokens[item.first : item.last]
    if any(token.text == "*" or token.low in ("select", "over") for token in tokens):
        return False
    # Another function may be an aggregate that is not known here.
    calls = [text.tokens[at].text for at in range(item.first, item.last) if text.is_at(at + 1, "(")]
    if not all(_SCALAR.fullmatch(name) for name in calls):
        return False
    return any(token.kind in ("word", "quoted") for token in tokens)


# Literals and operators -----------------------------------------------------------------------------------------------


def _escapes(text: HogQLText) -> Iterator[Change]:
    r"""``LIKE 'a\_b'``: a backslash that escapes nothing is doubled."""
    for token in text.tokens:
        if token.kind != "string" or "\\" not in token.text:
            continue
        made = _ESCAPE.sub(lambda match: match[0] if match[1] in _KNOWN_ESCAPES else "\\" + match[0], token.text)
        if made != token.text:
            yield Change(token.start, token.end, made, r"a backslash within text is doubled: '\\_', '\\d'", "syntax")


def _literals(text: HogQLText) -> Iterator[Change]:
    """``DATE '...'``, ``TIMESTAMP '...'``, ``INTERVAL 7 DAYS``, ``CURRENT_DATE``, ``IS TRUE``."""
    functions = {"date": "toDate", "timestamp": "toDateTime"}
    moments = {"current_date": "today()", "current_timestamp": "now()", "localtimestamp": "now()"}
    for at, token in enumerate(text.tokens):
        if token.kind != "word" or text.is_name(at):
            continue
        following = text.tokens[at + 1] if at + 1 < len(text.tokens) else None
        if token.low in functions and following is not None and following.kind == "string":
            made = f"{functions[token.low]}({following.text})"
            yield Change(token.start, following.end, made, f"such a literal is {made}", "syntax")
        elif token.low in moments:
            is_call = text.is_at(at + 1, "(", ")")
            if not is_call or token.low == "current_date":
                end = text.tokens[at + 2].end if is_call else token.end
                yield Change(token.start, end, moments[token.low], f"it is {moments[token.low]}", "unknown_field")
        elif token.low in _UNITS and at >= 2 and text.is_at(at - 2, "interval"):
            unit = token.text[:-1].upper()
            yield Change(token.start, token.end, unit, f"units are singular: INTERVAL 7 {unit}", "syntax")
        elif token.low == "is" and (text.is_at(at + 1, "true") or text.is_at(at + 1, "false")):
            end = text.tokens[at + 1].end
            yield Change(token.start, end, f"= {text.tokens[at + 1].low}", "IS TRUE is = true", "syntax")


def _operators(text: HogQLText) -> Iterator[Change]:
    """``REGEXP``, ``RLIKE``, ``SIMILAR TO``, ``MOD``, ``DIV``, ``* EXCEPT``, ``SUBSTRING(x FROM 1 FOR 3)``."""
    for at, token in enumerate(text.tokens):
        if token.kind != "word" or text.is_name(at):
            continue
        negated = text.is_at(at - 1, "not")
        start = text.tokens[at - 1].start if negated else token.start
        if token.low in ("regexp", "rlike") and not text.is_at(at + 1, "("):
            made = "!~" if negated else "=~"
            yield Change(start, token.end, made, "a regular expression is matched with =~", "syntax")
        elif token.low == "similar" and text.is_at(at + 1, "to") and at + 2 < len(text.tokens):
            if re.fullmatch(r"'[^|*+?{}()\[\]\\]*'", text.tokens[at + 2].text):
                yield Change(token.start, text.tokens[at + 1].end, "LIKE", "SIMILAR TO is LIKE here", "syntax")
        elif token.low == "mod" and operand_before(text, at) is not None and not text.is_at(at + 1, "("):
            yield Change(token.start, token.end, "%", "MOD is %", "syntax")
        elif token.low == "except" and text.is_at(at - 1, "*") and text.is_at(at + 1, "("):
            yield Change(token.start, token.end, "EXCLUDE", "columns are left out by * EXCLUDE (...)", "syntax")
    for at, arguments in text.calls("substring", "substr"):
        if len(arguments) == 1:
            inside = arguments[0]
            first = next((word for word in text.at_top(inside) if text.is_at(word, "from")), None)
            if first is not None:
                second = next((word for word in text.at_top(inside) if text.is_at(word, "for")), inside.last)
                values = [Span(inside.first, first), Span(first + 1, second), Span(second + 1, inside.last)]
                made = ", ".join(text.source(value) for value in values if value.first < value.last)
                why = "substring takes commas"
                yield Change(text.tokens[at].start, text.call_end(at), f"substring({made})", why, "syntax")


CLAUSE_RULES: tuple[Rule, ...] = (
    _semicolon, _settings, _limits, _where_before_join, _join_inequality, _tables, _aggregate_in_where, _missing_group,
    _escapes, _literals, _operators,
)  # fmt: skip
