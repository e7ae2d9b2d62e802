"""Laws of what crosses the border of a sandbox."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.exceptions import PostHogError
from posthog_driver.results import QueryResult
from posthog_driver.sandbox.broker import Broker, encode_rows, read_error, read_rows
from posthog_driver.sandbox.errors import SandboxRunError
from posthog_driver.sandbox.model import SandboxLimits
from posthog_driver.sandbox.wire import Marked, Tail

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Text that looks like the runner's lines, and is cut anywhere.
SHREDS = st.lists(st.sampled_from(["\n", "PHDQ", "PHD1", " ", "abc", "x", "\nPHDQ abc ", "é"]), max_size=30).map(
    "".join
)
LINE = st.text(string.ascii_letters + ' {}":', max_size=20)


@given(st.lists(st.binary(max_size=20)), st.integers(0, 30))
def test_a_tail_is_the_end_of_all(chunks: list[bytes], most: int) -> None:
    tail = Tail(most)
    for chunk in chunks:
        tail.add(chunk)
    whole = b"".join(chunks)
    kept = whole[len(whole) - most :] if most < len(whole) else whole
    assert (tail.text(), tail.dropped) == (kept.decode("utf-8", "replace"), len(whole) - len(kept))


@given(st.lists(st.tuples(SHREDS, LINE)), SHREDS, st.integers(1, 7))
def test_every_line_of_the_runner_is_found_however_the_stream_is_cut(
    parts: list[tuple[str, str]], last: str, size: int
) -> None:
    nonce = "0123"
    stream = "".join(f"{text}\nPHDQ {nonce} {line}\n" for text, line in parts) + last
    output = Tail(1 << 20)
    lines = Marked(nonce, output, 1_000)
    encoded = stream.encode()
    found = [pair for at in range(0, len(encoded), size) for pair in lines.feed(encoded[at : at + size])]
    lines.finish()
    assert found == [("PHDQ", line.encode()) for _, line in parts]
    assert output.text() == "".join(text for text, _ in parts) + last


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=6))
def test_rows_come_through_as_they_are(rows: list[dict[str, Any]]) -> None:
    assert read_rows(json.loads(encode_rows(QueryResult(rows), 1 << 24))) == rows


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), st.floats(-1, 10))
def test_whatever_code_sends_is_answered_with_one_line(line: bytes, seconds: float) -> None:
    broker = Broker(lambda hogql, values, left: [{"n": 1}], SandboxLimits())
    reply = broker.answer(line, seconds)
    assert reply.endswith(b"\n")
    assert set(json.loads(reply)) in ({"rows", "info"}, {"error"})


@given(
    JSON | st.fixed_dictionaries({"error": st.fixed_dictionaries({"kind": st.text(), "message": JSON, "facts": JSON})})
)
def test_whatever_comes_out_as_an_error_is_an_error_of_the_driver(told: Any) -> None:
    error = read_error(told)
    assert isinstance(error, PostHogError)


@given(JSON)
def test_whatever_comes_out_as_a_result_is_rows_or_an_error(told: Any) -> None:
    try:
        assert isinstance(read_rows(told), QueryResult)
    except SandboxRunError:
        return
