"""The file of changes: what a crash may cut, what is damage, and what a full disk leaves."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from posthog_driver.local import journal as module
from posthog_driver.local.files import DamagedFile
from posthog_driver.local.journal import Journal

FIRST = {"cohorts": {"1": {"id": 1, "name": "first"}}}
SECOND = {"id": 2, "name": "second"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with one entity and two changes."""
    path = tmp_path / "entities.json"
    journal = Journal(path)
    journal.begin(FIRST)
    journal.append([("cohorts", "2", SECOND), ("cohorts", "1", None)])
    return path


def test_changes_are_made_when_the_file_is_read(path: Path) -> None:
    assert Journal(path).read() == {"cohorts": [SECOND]}


def test_a_file_that_was_read_holds_its_changes_in_one_line(path: Path) -> None:
    Journal(path).read()

    assert path.read_text().count("\n") == 0
    assert Journal(path).read() == {"cohorts": [SECOND]}


def test_a_last_change_that_a_crash_cut_is_left_out_and_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(path.read_text()[:-3])

    with caplog.at_level(logging.WARNING, module.__name__):
        found = Journal(path).read()

    assert found == {"cohorts": [*FIRST["cohorts"].values(), SECOND]}
    assert "cut by a crash" in caplog.text


def test_a_damaged_change_in_the_middle_is_an_error_and_the_file_stays(path: Path) -> None:
    first, second, third = path.read_text().split("\n")
    path.write_text(damaged := "\n".join((first, second[:-4], third)))

    with pytest.raises(DamagedFile, match=r"entities\.json is damaged"):
        Journal(path).read()
    assert path.read_text() == damaged


def test_a_change_that_does_not_fit_on_the_disk_leaves_no_part_of_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Journal(path).append([("cohorts", "3", {"id": 3})])

    assert path.read_bytes() == before
    Journal(path).append([("cohorts", "4", {"id": 4})])
    assert Journal(path).read() == {"cohorts": [SECOND, {"id": 4}]}


def test_without_a_path_nothing_is_kept() -> None:
    journal = Journal(None)
    journal.begin(FIRST)
    journal.append([("cohorts", "2", SECOND)])

    assert journal.read() is None
