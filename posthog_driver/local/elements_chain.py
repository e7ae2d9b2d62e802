"""What was clicked, as PostHog stores it: a list of elements becomes the text of ``elements_chain``.

Libraries send the text itself (``$elements_chain``), older ones the list (``$elements``). Source of the form:
``elements-chain.ts`` of PostHog's ingestion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["take_elements_chain"]

_MAX_TEXT, _MAX_HREF = 400, 2048


def take_elements_chain(properties: dict[str, Any]) -> str:
    """Take the elements out of an event's properties, where PostHog does not keep them, and return their chain."""
    chain, elements = properties.pop("$elements_chain", None), properties.pop("$elements", None)
    if chain:
        return str(chain)
    if not isinstance(elements, Sequence) or isinstance(elements, str):
        return ""
    return ";".join(_printed(element) for element in elements if isinstance(element, Mapping))


def _printed(element: Mapping[str, Any]) -> str:
    classes = element.get("attr__class")
    names = classes.split() if isinstance(classes, str) else classes if isinstance(classes, list) else []
    tag = str(element.get("tag_name") or "") + "".join(f".{name}" for name in sorted(_plain(name) for name in names))
    text, href, id = element.get("$el_text"), element.get("attr__href"), element.get("attr__id")
    attributes = {
        **({"text": str(text)[:_MAX_TEXT]} if text else {}),
        "nth-child": element.get("nth_child") or 0,
        "nth-of-type": element.get("nth_of_type") or 0,
        **({"href": str(href)[:_MAX_HREF]} if href else {}),
        **({"attr_id": id} if id else {}),
        **{name: value for name, value in element.items() if name.startswith("attr__")},
    }
    shown = (f'{_escaped(name)}="{_escaped(value)}"' for name, value in sorted(attributes.items()))
    return f"{tag}:{''.join(shown)}"


def _plain(name: Any) -> str:
    return str(name).replace('"', "")


def _escaped(value: Any) -> str:
    text = " ".join(str(part) for part in value) if isinstance(value, list) else str(value)
    return text.replace('"', '\\"')
