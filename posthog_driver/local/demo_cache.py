"""Keeps generated demo data, so that the next embedded PostHog with the same data starts without generating it.

An entry is a whole data directory, under a name made of everything the data depends on. It is made under another name
and renamed when it is complete, so that whoever finds it can use it, however many processes start at once. The large
files of the engine never change once written and are shared by hard links where the file system has them; the small
ones are copied.

``$POSTHOG_LOCAL_CACHE`` names another directory than ``$XDG_CACHE_HOME/posthog-driver``, or is ``off``. A cache that
cannot be read or written is no error: the data is generated then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["DemoCache"]

MIN_EVENTS = 50_000
"""Data with fewer events is made faster than it is worth keeping."""

MAX_ENTRIES = 4
"""Entries that are kept; the ones used longest ago go."""

MAX_BYTES = 4 * 1024**3
"""Bytes of all entries together, unless a single one is larger."""

_SOURCES = ("demo.py", "demo_sql.py", "demo_truth.py", "demo_catalog.py", "storage.py", "channel_types.py")

_SHARED = (".bin", ".cmrk", ".cmrk2", ".cmrk3", ".cmrk4", ".mrk", ".mrk2", ".mrk3", ".mrk4", ".cidx", ".idx")
"""Files that the engine writes once."""

_LOG = logging.getLogger(__name__)


class DemoCache:
    """The cache of one kind of demo data.

    Args:
        facts: What the data depends on, beside the code that makes it and the version of the engine.
        directory: Where entries are kept; None asks the environment.
    """

    def __init__(self, facts: dict[str, Any], directory: Path | None = None) -> None:
        sources = (Path(__file__).with_name(name).read_bytes() for name in _SOURCES)
        made_by = hashlib.sha256(b"".join(sources)).hexdigest()
        everything = {**facts, "made_by": made_by, "engine": version("chdb-core")}
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
        self._directory = directory if directory is not None else _directory()
        self._name = f"demo-{facts['events']}-{digest[:16]}"

    def bring(self, data: str | os.PathLike[str]) -> bool:
        """Fill a data directory that is empty or missing with the kept data.

        Returns:
            Whether there was any; if not, the directory is as it was.
        """
        entry = self._entry()
        target = Path(data)
        if entry is None or not entry.is_dir() or (target.is_dir() and any(target.iterdir())):
            return False
        try:
            _copy(entry, target)
            os.utime(entry)
        except OSError as error:
            _LOG.warning("the kept demo data cannot be used: %s", error)
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            return False
        return True

    def keep(self, data: str | os.PathLike[str]) -> bool:
        """Keep the data of a directory that no engine has open.

        Returns:
            Whether it is kept now.
        """
        entry = self._entry()
        if entry is None or entry.is_dir():
            return entry is not None
        draft = None
        try:
            entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=entry.parent))
            _copy(Path(data), draft)
            os.replace(draft, entry)
        except OSError as error:
            # Another process may have been faster, which is as good.
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)
            if not entry.is_dir():
                _LOG.warning("the demo data cannot be kept: %s", error)
                return False
        self._clean(entry)
        return True

    def _entry(self) -> Path | None:
        return None if self._directory is None else self._directory / self._name

    def _clean(self, newest: Path) -> None:
        """Remove the entries used longest ago, until number and size fit; the newest stays."""
        entries = []
        for entry in newest.parent.glob("demo-*"):
            with suppress(OSError):
                entries.append((entry.stat().st_mtime, entry, _bytes(entry)))
        entries.sort(key=lambda found: (found[1] != newest, -found[0]))
        total = 0
        for number, (_, entry, size) in enumerate(entries, start=1):
            total += size
            if number > 1 and (number > MAX_ENTRIES or total > MAX_BYTES):
                shutil.rmtree(entry, ignore_errors=True)


def _directory() -> Path | None:
    """Where entries are kept, None for nowhere."""
    named = os.environ.get("POSTHOG_LOCAL_CACHE", "")
    if named.lower() in ("off", "0", "no", "false"):
        return None
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "posthog-driver"


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_share, dirs_exist_ok=True)
    target.chmod(0o700)


def _share(source: str, target: str) -> None:
    if source.endswith(_SHARED):
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
