"""What comes out of a sandbox, piece by piece: the end of an output, and lines of the runner among it."""

from __future__ import annotations

from collections import deque

from posthog_driver.sandbox.runner import QUERY_MARK, RESULT_MARK

__all__ = ["Marked", "Tail"]


class Tail:
    """The last bytes of a stream.

    Args:
        most: How many are kept.

    Attributes:
        size: Bytes that there were in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Add what came next."""
        self.size += len(chunk)
        self._kept += len(chunk)
        self._chunks.append(chunk)
        while self._chunks and self._kept - len(self._chunks[0]) >= self._most:
            self._kept -= len(self._chunks.popleft())

    @property
    def dropped(self) -> int:
        """Bytes that are not kept."""
        return max(self.size - self._most, 0)

    def text(self) -> str:
        """Return what is kept; a character that the cut went through is shown as such."""
        whole = b"".join(self._chunks)
        return whole[max(len(whole) - self._most, 0) :].decode("utf-8", "replace")


class Marked:
    """Tells the runner's lines from a script's output on one stream, however the stream is cut into pieces.

    A line of the runner is a line feed, a mark, the nonce of the run, a text and a line feed, see `runner`.

    Args:
        nonce: The run's.
        output: Where the script's output goes.
        most: Bytes that a line of the runner may have; what is longer counts as output.
    """

    def __init__(self, nonce: str, output: Tail, most: int) -> None:
        self._starts = {mark: f"\n{mark} {nonce} ".encode() for mark in (QUERY_MARK, RESULT_MARK)}
        self._longest = max(map(len, self._starts.values()))
        self._most = most
        self._output = output
        self._held = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """Take the next piece and return the runner's lines that it completes, as mark and text."""
        self._held += chunk
        lines: list[tuple[str, bytes]] = []
        while (found := self._first()) is not None:
            mark, start, text = found
            self._pass(start)
            end = self._held.find(b"\n", text - start)
            if end < 0:
                if len(self._held) <= self._most:
                    return lines
                self._pass(len(self._held))
                return lines
            lines.append((mark, bytes(self._held[text - start : end])))
            del self._held[: end + 1]
        self._pass(len(self._held) - self._possible())
        return lines

    def finish(self) -> None:
        """Count what is held back as output: the stream has ended."""
        self._pass(len(self._held))

    def _first(self) -> tuple[str, int, int] | None:
        """Return mark, start, and start of the text of the first line of the runner that has begun."""
        found = [(self._held.find(start), mark) for mark, start in self._starts.items()]
        at, mark = min(((at, mark) for at, mark in found if at >= 0), default=(-1, ""))
        return None if at < 0 else (mark, at, at + len(self._starts[mark]))

    def _possible(self) -> int:
        """Return how many of the last bytes may yet turn out to begin a line of the runner."""
        for size in range(min(self._longest, len(self._held)), 0, -1):
            end = bytes(self._held[-size:])
            if any(start.startswith(end) for start in self._starts.values()):
                return size
        return 0

    def _pass(self, size: int) -> None:
        if size:
            self._output.add(bytes(self._held[:size]))
            del self._held[:size]
