"""The end of an output, and the runner's lines among it."""

from __future__ import annotations

from posthog_driver.sandbox.wire import Marked, Tail


def test_a_tail_keeps_the_last_bytes_and_counts_the_others() -> None:
    tail = Tail(5)
    for chunk in (b"abc", b"", b"defg", b"h"):
        tail.add(chunk)
    assert (tail.text(), tail.dropped, tail.size) == ("defgh", 3, 8)


def test_a_tail_may_keep_nothing() -> None:
    tail = Tail(0)
    tail.add(b"abc")
    assert (tail.text(), tail.dropped) == ("", 3)


def test_a_character_that_is_cut_is_shown_as_such() -> None:
    tail = Tail(3)
    tail.add("aé€".encode())
    assert tail.text() == "€"
    tail.add(b"b")
    assert tail.text().endswith("b")


def marked(most: int = 1_000) -> tuple[Marked, Tail]:
    output = Tail(10_000)
    return Marked("abc", output, most), output


def test_lines_of_the_runner_are_told_from_output() -> None:
    lines, output = marked()
    told = lines.feed(b'one\n\nPHDQ abc {"query": 1}\ntwo\nPHD1 other 5\n\nPHD1 abc 5 ff\n')
    lines.finish()
    assert told == [("PHDQ", b'{"query": 1}'), ("PHD1", b"5 ff")]
    assert output.text() == "one\ntwo\nPHD1 other 5\n"


def test_a_line_that_never_ends_is_output_once_it_is_too_long() -> None:
    lines, output = marked(100)
    assert lines.feed(b"\nPHDQ abc " + b"x" * 200) == []
    assert output.size == 210


def test_what_is_held_back_at_the_end_is_output() -> None:
    lines, output = marked()
    assert lines.feed(b"text\nPHD") == []
    assert output.text() == "text"
    lines.finish()
    assert output.text() == "text\nPHD"


def test_a_line_that_is_waited_for_holds_back_what_follows() -> None:
    lines, output = marked()
    assert lines.feed(b"a\nPHDQ abc {") == []
    assert output.text() == "a"
    assert lines.feed(b"}\nb") == [("PHDQ", b"{}")]
    lines.finish()
    assert output.text() == "ab"
