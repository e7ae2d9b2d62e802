"""Small JSON files in the data directory: whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["DamagedFile", "reading", "write_json"]


class DamagedFile(Exception):
    """A file that does not hold what it should; it is left as it is."""


@contextmanager
def reading(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Make whatever goes wrong with the content of a file an error that names it.

    Raises:
        DamagedFile: The content is no JSON, or not the expected one.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
        raise DamagedFile(
            f"{path} is damaged ({type(problem).__name__}: {problem}); put a copy of it back, or use another data "
            "directory. Nothing was changed."
        ) from problem


def write_json(path: Path, content: Any) -> None:
    """Replace a file by a value as JSON; a crash leaves the old one or the new one, readable by the owner alone."""
    draft = path.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
