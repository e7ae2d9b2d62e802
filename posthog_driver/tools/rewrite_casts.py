"""Rules for casts, whose types have other names in PostHog."""

from __future__ import annotations

from collections.abc import Iterator

from posthog_driver.tools.hogql_text import HogQLText, Span
from posthog_driver.tools.rewrite_calls import Change, Rule

__all__ = ["CAST_RULES", "operand_before"]

_CASTS = {
    **dict.fromkeys(("float32", "float64", "double", "real", "float4", "float8"), "Float"),
    **dict.fromkeys(
        (
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "bigint",
            "smallint",
            "tinyint",
            "int4",
        ),
        "Int",
    ),
    **dict.fromkeys(("varchar", "char", "nvarchar"), "String"),
    **dict.fromkeys(("timestamptz", "datetime64"), "DateTime"),
}
_DECIMALS = ("decimal", "numeric", "decimal32", "decimal64", "decimal128")
# What is usual for amounts; more digits than that are lost by no rate, price or share.
_SCALE = "6"
_NO_OPERAND = frozenset(
    (
        "and",
        "or",
        "not",
        "in",
        "select",
        "where",
        "on",
        "having",
        "by",
        "when",
        "then",
        "else",
        "between",
        "like",
        "ilike",
    )
)


def _casts(text: HogQLText) -> Iterator[Change]:
    """``CAST(x AS Float64)``, ``x::numeric``; decimals are made by ``toDecimal``, which keeps them exact."""
    for at, arguments in text.calls("cast", "try_cast"):
        if len(arguments) != 1:
            continue
        inside = arguments[0]
        split = next((word for word in text.at_top(inside) if text.is_at(word, "as")), None)
        if split is not None and split + 1 < inside.last:
            value = text.source(Span(inside.first, split))
            yield from _cast(text, Span(at, text.partners[at + 1] + 1), value, Span(split + 1, inside.last))
    for at, token in enumerate(text.tokens):
        if token.text == "::" and at + 1 < len(text.tokens):
            first = operand_before(text, at)
            end = text.skip(at + 2) if text.is_at(at + 2, "(") else at + 2
            if first is not None:
                yield from _cast(text, Span(first, end), text.source(Span(first, at)), Span(at + 1, end))


def _cast(text: HogQLText, whole: Span, value: str, kind: Span) -> Iterator[Change]:
    start, end = text.tokens[whole.first].start, text.tokens[whole.last - 1].end
    name = text.tokens[kind.first].low
    if name in _DECIMALS:
        numbers = [text.tokens[at].text for at in range(kind.first, kind.last) if text.tokens[at].kind == "number"]
        made = f"toDecimal({value}, {numbers[-1] if len(numbers) == 2 else _SCALE})"
        yield Change(start, end, made, "decimals are made by toDecimal(x, digits)", "type")
    elif name in _CASTS:
        target = _CASTS[name]
        why = "types of a CAST are Int, Float, String, Boolean, Date, DateTime"
        yield Change(start, end, f"CAST({value} AS {target})", why, "type")


def operand_before(text: HogQLText, at: int) -> int | None:
    """Return where the operand begins that ends before a position: a literal, a chain, a call or a bracket."""
    at -= 1
    while at >= 0:
        token = text.tokens[at]
        if token.text in (")", "]"):
            if at not in text.partners:
                return None
            at = text.partners[at]
            before = text.tokens[at - 1] if at else None
            is_attached = before is not None and (
                before.text in (")", "]") or (before.kind in ("word", "quoted") and before.low not in _NO_OPERAND)
            )
            if not is_attached:
                return at
            at -= 1
            continue
        if token.kind == "sign":
            return None
        if not text.is_name(at):
            return at
        at -= 2
    return None


CAST_RULES: tuple[Rule, ...] = (_casts,)
