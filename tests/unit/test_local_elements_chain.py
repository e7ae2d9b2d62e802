"""The chain of a clicked element, as older libraries send it and as PostHog stores it."""

from __future__ import annotations

from typing import Any

import pytest

from posthog_driver.local.elements_chain import take_elements_chain

LINK = {
    "tag_name": "a",
    "$el_text": 'Say "hi"',
    "attr__href": "/there",
    "attr__class": "small  bold",
    "attr__id": "go",
    "nth_child": 1,
    "nth_of_type": 2,
}


def test_a_list_of_elements_becomes_their_chain_and_leaves_the_properties() -> None:
    properties: dict[str, Any] = {"$elements": [LINK, {"tag_name": "div"}], "plan": "team"}

    assert take_elements_chain(properties) == (
        'a.bold.small:attr__class="small  bold"attr__href="/there"attr__id="go"attr_id="go"href="/there"'
        'nth-child="1"nth-of-type="2"text="Say \\"hi\\"";div:nth-child="0"nth-of-type="0"'
    )
    assert properties == {"plan": "team"}


def test_the_text_of_a_chain_is_kept_as_it_is_before_any_list() -> None:
    properties = {"$elements_chain": "button.big", "$elements": [LINK]}

    assert take_elements_chain(properties) == "button.big"
    assert properties == {}


@pytest.mark.parametrize("elements", [None, "a", 7, {"tag_name": "a"}, [], ["a", None]])
def test_what_is_no_list_of_elements_is_no_chain(elements: Any) -> None:
    assert take_elements_chain({"$elements": elements}) == ""


def test_classes_may_come_as_a_list_and_long_texts_are_cut_as_posthog_cuts_them() -> None:
    chain = take_elements_chain({"$elements": [{"attr__class": ["b", 'a"'], "$el_text": "x" * 500}]})

    assert chain.startswith('.a.b:attr__class="b a\\""nth-child="0"')
    assert f'text="{"x" * 400}"' in chain
