"""Whatever JSON holds survives capture: unchanged, complete, in batches below the size; originals stay as they were."""

from __future__ import annotations

import copy
import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posthog_driver import capture
from posthog_driver._codec import encode
from posthog_driver.capture import plan_batches, plan_event

NOW = 1_700_000_000.0
TEXT = st.text()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=10)
PROPERTIES = st.dictionaries(TEXT, TREES, max_size=4)
NAMES = TEXT.filter(str.strip)
SIMPLE = st.dictionaries(st.sampled_from("abc"), SCALARS)
EVENTS = st.lists(st.fixed_dictionaries({"event": NAMES, "distinct_id": NAMES, "properties": SIMPLE}), max_size=8)
SIZES = st.integers(100, 3_000)


@given(name=NAMES, properties=PROPERTIES)
def test_a_tree_of_properties_arrives_as_it_was_and_stays_as_it_was(name: str, properties: dict[str, Any]) -> None:
    event = {"event": name, "distinct_id": "user 1", "properties": properties}
    before = copy.deepcopy(event)
    body = json.loads(encode(plan_event("phc_test", event, NOW).json))
    assert (body["event"], body["properties"]) == (name, properties)
    # == takes 1, 1.0 and True for the same; JSON text does not.
    assert json.dumps(body["properties"]) == json.dumps(properties)
    assert json.dumps(event) == json.dumps(before)


@given(events=EVENTS, limit=SIZES)
def test_batches_stay_below_the_size_and_lose_nothing(events: list[dict[str, Any]], limit: int) -> None:
    before = copy.deepcopy(events)
    usual = capture.MAX_BATCH_BYTES
    capture.MAX_BATCH_BYTES = limit
    try:
        batches = plan_batches("phc_test", events, NOW)
    finally:
        capture.MAX_BATCH_BYTES = usual
    head = len(b'{"api_key":"phc_test","batch":[]}')
    arrived: list[Any] = []
    for request, count in batches:
        packed = (request.headers or {}).get("Content-Encoding") == "gzip"
        body = gzip.decompress(request.body or b"") if packed else request.body or b""
        batch = json.loads(body)["batch"]
        assert len(batch) == count
        assert len(body) <= limit + head or count == 1
        arrived += batch
    names = ("event", "properties")
    assert [[event[name] for name in names] for event in arrived] == [
        [event[name] for name in names] for event in events
    ]
    assert len({event["uuid"] for event in arrived}) == len(events)
    assert events == before
