"""What went wrong with a call, as a value, and the text that a model reads of it."""

from __future__ import annotations

import dataclasses

from posthog_driver.tools.escaping import is_safe
from posthog_driver.tools.hogql_text import one_line
from posthog_driver.tools.layout import escape, fence, new_fence_id

__all__ = ["MAX_TEXT", "Problem", "fits"]

MAX_TEXT = 1_200
"""Most characters of a problem's text."""

_LINE = 96
_MOST_REWRITTEN = 640


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why a call failed and what to do; `text` is what the model reads.

    Attributes:
        kind: One word for the kind of trouble, such as ``unknown_field``.
        position: First and last character (exclusive) of the trouble in the query.
        query: The query.
        fix: What is wrong and how it is right.
        next: What to do now.
        quoted: What may quote captured data, line by line: PostHog's words, names of the project.
        rewritten: The whole query as PostHog accepts it, where it follows without doubt.
        outcome: What became of the call.
    """

    kind: str
    position: tuple[int, int] | None = None
    query: str = ""
    fix: str = ""
    next: str = ""
    quoted: tuple[str, ...] = ()
    rewritten: str | None = None
    outcome: str = "nothing was run"

    def text(self, fence_id: str | None = None) -> str:
        """Return the text, at most `MAX_TEXT` characters; parts that do not fit are left out from the least useful on.

        Args:
            fence_id: Id of the fence around what is quoted; a random one if None.
        """
        where = "" if self.position is None else " at {}-{}".format(*self.position)
        head = [f"error {self.kind}{where}, {self.outcome}", *_caret(self.query, self.position)]
        fix, rewritten, quoted = [f"fix: {self.fix}"] if self.fix else [], self._rewritten(), self._quoted(fence_id)
        tail = [f"next: {self.next}"]
        for lines in ([*head, *fix, *rewritten, *quoted, *tail], [*head, *fix, *rewritten, *tail]):
            if len(made := "\n".join(lines)) <= MAX_TEXT:
                return made
        room = MAX_TEXT - len("\n".join([*head, *rewritten, *tail])) - len("\n...")
        return "\n".join([*head, *(f"{line[:room]}..." for line in fix), *rewritten, *tail])

    def _rewritten(self) -> list[str]:
        if self.rewritten is None:
            return []
        return [f"rewritten: {one_line(self.rewritten)}"] if fits(self.rewritten) else []

    def _quoted(self, fence_id: str | None) -> list[str]:
        return [fence(self.quoted, fence_id or new_fence_id())] if self.quoted else []


def fits(query: str) -> bool:
    """Return whether a query can be shown on a line as it is."""
    line = one_line(query)
    return len(line) <= _MOST_REWRITTEN and is_safe(line)


def _caret(query: str, position: tuple[int, int] | None) -> list[str]:
    """Return the line of the query at the position, cut around it, and carets below."""
    if position is None or not 0 <= position[0] <= position[1] <= len(query) or not query:
        return []
    start, end = position
    begin = query.rfind("\n", 0, start) + 1
    stop = query.find("\n", start)
    stop = len(query) if stop < 0 else stop
    end = max(min(end, stop), start + 1)
    left = begin if start - begin <= _LINE // 2 else start - _LINE // 3
    right = min(stop, left + _LINE)
    before = ("..." if left > begin else "") + escape(query[left:start])
    marked = escape(query[start : min(end, right)])
    after = escape(query[min(end, right) : right]) + ("..." if right < stop else "")
    return [f"  {before}{marked}{after}", f"  {' ' * len(before)}{'^' * max(len(marked), 1)}"]
