"""The cache of demo data: what is brought back is what was kept, and nothing goes wrong without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posthog_driver.local import demo_cache
from posthog_driver.local.demo import open_storage
from posthog_driver.local.demo_cache import MAX_ENTRIES, DemoCache

FACTS = {"events": 5, "seed": 0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as an engine leaves it."""
    directory = tmp_path / "data"
    (directory / "store").mkdir(parents=True)
    (directory / "store" / "event.bin").write_bytes(b"large")
    (directory / "demo.json").write_text("small")
    return directory


def test_what_was_kept_is_brought_into_an_empty_directory(tmp_path: Path, data: Path) -> None:
    cache = DemoCache(FACTS, tmp_path / "cache")
    assert cache.bring(tmp_path / "first") is False
    assert cache.keep(data) is True
    assert cache.bring(tmp_path / "second") is True
    assert (tmp_path / "second" / "store" / "event.bin").read_bytes() == b"large"
    assert (tmp_path / "second" / "demo.json").read_text() == "small"
    assert (tmp_path / "second").stat().st_mode & 0o777 == 0o700


def test_small_files_are_copies_and_large_ones_are_shared(tmp_path: Path, data: Path) -> None:
    cache = DemoCache(FACTS, tmp_path / "cache")
    cache.keep(data)
    cache.bring(tmp_path / "other")
    assert (tmp_path / "other" / "store" / "event.bin").samefile(data / "store" / "event.bin")
    assert not (tmp_path / "other" / "demo.json").samefile(data / "demo.json")


def test_without_hard_links_everything_is_copied(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    cache = DemoCache(FACTS, tmp_path / "cache")
    assert cache.keep(data)
    assert cache.bring(tmp_path / "other")
    assert (tmp_path / "other" / "store" / "event.bin").read_bytes() == b"large"


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path, data: Path) -> None:
    cache = DemoCache(FACTS, tmp_path / "cache")
    cache.keep(data)
    assert cache.bring(data) is False


def test_other_facts_have_other_data(tmp_path: Path, data: Path) -> None:
    DemoCache(FACTS, tmp_path / "cache").keep(data)
    assert DemoCache({**FACTS, "seed": 1}, tmp_path / "cache").bring(tmp_path / "other") is False


def test_a_second_keeper_finds_it_kept(tmp_path: Path, data: Path) -> None:
    assert DemoCache(FACTS, tmp_path / "cache").keep(data)
    assert DemoCache(FACTS, tmp_path / "cache").keep(data)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_who_was_overtaken_while_keeping_leaves_nothing_behind(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DemoCache(FACTS, tmp_path / "cache")
    replace = os.replace

    def overtaken(source: Path, target: Path) -> None:
        replace(source, target)
        raise OSError("directory not empty")

    monkeypatch.setattr(os, "replace", overtaken)
    assert cache.keep(data) is True
    assert [entry.name.startswith("demo-") for entry in (tmp_path / "cache").iterdir()] == [True]


def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    cache = DemoCache(FACTS, tmp_path / "cache")
    assert cache.keep(data) is False
    assert cache.bring(tmp_path / "other") is False
    assert "cannot be kept" in caplog.text


def test_a_copy_that_fails_leaves_an_empty_directory(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DemoCache(FACTS, tmp_path / "cache")
    cache.keep(data)

    def fail(source: str, target: str) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(demo_cache, "_share", fail)
    assert cache.bring(tmp_path / "other") is False
    assert list((tmp_path / "other").iterdir()) == []
    assert "cannot be used" in caplog.text


def test_the_entries_used_longest_ago_go(tmp_path: Path, data: Path) -> None:
    for seed in range(MAX_ENTRIES + 2):
        cache = DemoCache({**FACTS, "seed": seed}, tmp_path / "cache")
        cache.keep(data)
        for age, entry in enumerate(sorted((tmp_path / "cache").iterdir(), key=lambda one: one.stat().st_mtime)):
            os.utime(entry, (1000 + age, 1000 + age))
    kept = [DemoCache({**FACTS, "seed": seed}, tmp_path / "cache")._entry() for seed in range(2, MAX_ENTRIES + 2)]
    assert set((tmp_path / "cache").iterdir()) == set(kept)


def test_entries_that_are_too_large_together_go_but_for_the_newest(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_cache, "MAX_BYTES", 7)
    for seed in range(2):
        DemoCache({**FACTS, "seed": seed}, tmp_path / "cache").keep(data)
    assert list((tmp_path / "cache").iterdir()) == [DemoCache({**FACTS, "seed": 1}, tmp_path / "cache")._entry()]


@pytest.mark.parametrize("word", ["off", "0", "No"])
def test_the_cache_can_be_switched_off(word: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_LOCAL_CACHE", word)
    assert DemoCache(FACTS).keep(data) is False
    assert DemoCache(FACTS).bring(tmp_path / "other") is False


def test_the_environment_says_where_the_cache_is(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_LOCAL_CACHE", str(tmp_path / "named"))
    DemoCache(FACTS).keep(data)
    monkeypatch.delenv("POSTHOG_LOCAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    DemoCache(FACTS).keep(data)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    DemoCache(FACTS).keep(data)
    for place in ("named", "xdg/posthog-driver", "home/.cache/posthog-driver"):
        assert len(list((tmp_path / place).iterdir())) == 1


def test_kept_data_answers_as_the_data_it_was_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_LOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("posthog_driver.local.demo.MIN_EVENTS", 500)
    sums = []
    for name in ("made", "brought"):
        engine, demo = open_storage(tmp_path / name, events=500, seed=3)
        sql = "SELECT count(), sum(cityHash64(uuid, properties, timestamp)) FROM posthog.events"
        sums.append((engine.run(sql, query_id="sum").rows, demo.truth))
        engine.close()
    assert sums[0] == sums[1]
    assert len(list((tmp_path / "cache").iterdir())) == 1
