"""Which elements a filter or a step of an action means: by tag, text, address or CSS selector.

An event's ``elements_chain`` describes the clicked element and those around it, from the inside out, as
``a.nav:attr__href="/x"href="/x"text="Go";div``. Source of the rules: ``posthog/hogql/property.py``
(``element_chain_key_filter``) and ``posthog/models/property/util.py`` (selectors).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .conditions import Condition, Scope, bound, joined
from .parser import HogQLError

__all__ = ["compared", "element_condition", "selector_regex"]

_REST_OF_TAG = r'([-_a-zA-Z0-9\.:"= \[\]\(\),]*?)?($|;|:([^;^\s]*(;|$|\s)))'


def element_condition(key: str, operator: str, values: Sequence[Any], scope: Scope) -> Condition:
    """Return the condition of a filter on elements.

    Args:
        key: ``tag_name``, ``text``, ``href`` or ``selector``.
        operator: A positive operator: ``exact``, ``icontains``, ``regex``; or ``is_set`` and ``is_not_set``.
        values: One of them must fit.
        scope: Where the condition stands.

    Raises:
        HogQLError: The key or the operator is not known.
    """
    if key in ("selector", "tag_name"):
        if operator not in ("exact", "in"):
            raise HogQLError(f"A filter on the {key} of elements needs the operator exact, not {operator}.")
        make = selector_regex if key == "selector" else _tag_regex
        patterns = [make(str(value)) for value in values]
        return joined([bound(scope, lambda v: f"match(elements_chain, {v})", pattern) for pattern in patterns], "OR")
    if key == "href":
        return joined([compared("elements_chain_href", operator, value, scope) for value in values], "OR")
    if key == "text":
        parts = [compared("text", operator, value, scope) for value in values]
        found = joined(parts, "OR")
        return Condition(f"arrayExists(text -> {found.hogql}, elements_chain_texts)", found.values)
    raise HogQLError(f"Elements have tag_name, text, href and selector, not {key!r}.")


def selector_regex(selector: str) -> str:
    """Return the regular expression on ``elements_chain`` that a CSS selector stands for.

    Tags, classes, ids, attributes, ``*``, descendants and ``>`` are understood, as in PostHog.

    Raises:
        HogQLError: It holds something else.
    """
    parts: list[str] = []
    tokens = re.findall(r">|(?:\[[^\]]*\]|[^\s>])+", selector.strip())
    is_child = False
    for token in tokens:
        if token == ">":
            is_child = True
            continue
        if parts and not is_child:
            parts.append(".*")
        parts.append(_tag_of(token))
        is_child = False
    if not parts or is_child:
        raise HogQLError(f"{selector!r} is no selector.")
    # The chain goes from the inside out.
    return "(^|;)" + "".join(reversed(parts))


_PART_OF_TAG = re.compile(
    r"""(?P<tag>^(?:\*|[\w-]+))
      | \.(?P<class>(?:\\.|[\w-])+)
      | \#(?P<id>[\w-]+)
      | \[(?P<attribute>[\w:-]+)=(?P<quote>["']?)(?P<value>.*?)(?P=quote)\]
      | :(?P<nth>nth-child|nth-of-type)\((?P<number>\d+)\)""",
    re.VERBOSE,
)


def _tag_of(token: str) -> str:
    """The regular expression of one tag of a selector, as ``a.big[href="/x"]``."""
    tag, classes, attributes, end = ".+", [], {}, 0
    for part in _PART_OF_TAG.finditer(token):
        if part.start() != end:
            break
        end = part.end()
        if part["tag"]:
            tag = ".+" if part["tag"] == "*" else re.escape(part["tag"])
        elif part["class"]:
            classes.append(re.sub(r"\\(.)", r"\1", part["class"]))
        elif part["id"]:
            attributes["attr_id"] = part["id"]
        elif part["nth"]:
            attributes[part["nth"]] = part["number"]
        else:
            name = part["attribute"]
            attributes[name if name in ("text", "href") else f"attr__{name}"] = part["value"]
    if end != len(token):
        raise HogQLError(f"{token!r} is no part of a selector that is understood here.")
    if classes:
        tag += r".*?\." + r"\..*?".join(map(re.escape, sorted(classes)))
    if attributes:
        pairs = (rf'{re.escape(key)}="{re.escape(value)}".*?' for key, value in sorted(attributes.items()))
        tag += ".*?" + "".join(pairs)
    return tag + _REST_OF_TAG


def _tag_regex(name: str) -> str:
    return rf"(^|;){re.escape(name)}(\.|$|;|:)"


def compared(column: str, operator: str, value: Any, scope: Scope) -> Condition:
    """Return the condition that compares a text column with a value by one of the operators for texts."""
    if operator in ("is_set", "is_not_set"):
        return Condition(f"{column} {'!=' if operator == 'is_set' else '='} ''")
    if operator in ("exact", "in"):
        return bound(scope, lambda v: f"{column} = {v}", str(value))
    if operator in ("icontains", "contains"):
        pattern = "%" + re.sub(r"([\\%_])", r"\\\1", str(value)) + "%"
        return bound(scope, lambda v: f"{column} {'ILIKE' if operator == 'icontains' else 'LIKE'} {v}", pattern)
    if operator == "regex":
        return bound(scope, lambda v: f"match({column}, {v})", str(value))
    raise HogQLError(f"The operator {operator} is not available for elements and addresses in the embedded PostHog")
