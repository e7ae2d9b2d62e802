"""Projects and keys of the embedded PostHog across a restart."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, cast

import pytest

from posthog_driver.local.engine import Engine, EngineError
from posthog_driver.local.files import write_json
from posthog_driver.local.keys import Key, KeyRing
from posthog_driver.local.project import Projects
from tests.unit.local_world import FakeEngine


def opened(path: Path, made: list[str] | None = None, **defaults: Any) -> tuple[FakeEngine, Projects]:
    engine = FakeEngine(str(path))
    engine.made += made or []
    return engine, Projects(cast(Engine, engine), "phc_test", {}, defaults)


def test_projects_are_there_again_with_all_that_was_set(tmp_path: Path) -> None:
    engine, projects = opened(tmp_path)
    mine = projects.create({"name": "Mine", "timezone": "Asia/Tokyo"})
    gone = projects.create({"name": "Gone"})
    projects.update(mine, {"week_start_day": 1})
    projects.update(projects.first, {"name": "First"})
    mine.store.create("cohorts", {"name": "C"})
    projects.delete(gone)
    projects.close()

    _, again = opened(tmp_path, engine.made[1:])

    assert [project.id for project in again.all()] == [1, 2]
    kept = again.get(2)
    assert kept is not None
    assert kept.shown() == mine.shown()
    assert [cohort["name"] for cohort in kept.store.all("cohorts")] == ["C"]
    assert again.by_token(mine.token) is kept
    assert again.first.fields["name"] == "First"
    assert again.create({}).id == 4
    again.close()


def test_what_nobody_changed_of_the_first_project_follows_its_defaults(tmp_path: Path) -> None:
    _, projects = opened(tmp_path, timezone="Asia/Tokyo", name="Demo")
    projects.update(projects.first, {"name": "Mine"})

    _, again = opened(tmp_path, timezone="America/Lima", name="Demo")

    assert (again.first.fields["name"], again.first.fields["timezone"]) == ("Mine", "America/Lima")


def test_the_next_database_is_made_ahead_and_used(tmp_path: Path) -> None:
    engine, projects = opened(tmp_path)
    projects.create({})
    assert projects._prepared is not None
    projects._prepared[1].result(30)
    assert engine.made == ["posthog", "posthog_2", "posthog_3"]

    projects.create({})
    projects.close()

    assert engine.made.count("posthog_3") == 1


def test_a_database_that_could_not_be_made_ahead_is_made_when_it_is_needed(tmp_path: Path) -> None:
    engine, projects = opened(tmp_path)
    real = engine.create_database

    def fail_for_the_third(name: str) -> None:
        if name == "posthog_3":
            raise EngineError(243, "NOT_ENOUGH_SPACE", "disk full")
        real(name)

    engine.create_database = fail_for_the_third  # type: ignore[method-assign]
    projects.create({})
    assert projects._prepared is not None
    assert projects._prepared[1].exception(30) is not None
    engine.create_database = real  # type: ignore[method-assign]

    assert projects.create({}).id == 3
    assert "posthog_3" in engine.made
    projects.close()


def test_databases_of_no_project_are_dropped_at_the_start_and_others_are_not(tmp_path: Path) -> None:
    _, projects = opened(tmp_path)
    projects.create({})
    projects.close()
    (tmp_path / "entities_9.json").write_text("{}")

    again, _ = opened(tmp_path, ["posthog_2", "posthog_9", "posthog_demo", "default"])

    assert {path.name for path in tmp_path.glob("entities*")} == {"entities.json", "entities_2.json"}
    assert set(again.made) == {"posthog", "posthog_2", "posthog_demo", "default"}
    assert again.made.count("posthog_2") == 2  # it is completed, in case that its making was interrupted


def test_keys_are_there_again_and_their_values_are_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ring = KeyRing([Key.of("phx_fixed", "Fixed")], path)
    key, value = ring.create("Mine", ["query:read"], [2], [1, 2])
    assert value not in path.read_text()
    assert "phx_fixed" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    again = KeyRing([], path)

    assert again.find(value) == key
    assert again.find("phx_fixed") is None
    assert again.find("\ud800") is None
    again.forget_team(1)
    assert again.find(value) == key
    again.forget_team(2)
    assert again.find(value) is None
    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize(
    ("scopes", "allowed", "refused"),
    [
        (("*",), ["query:read", "person:write", ""], []),
        (("query:read",), ["query:read", ""], ["query:write", "person:read"]),
        (("person:write",), ["person:write", "person:read"], ["query:read"]),
    ],
)
def test_a_key_allows_what_its_scopes_say(scopes: tuple[str, ...], allowed: list[str], refused: list[str]) -> None:
    key = Key.of("phx_test", "Test", scopes)

    assert all(map(key.allows, allowed))
    assert not any(map(key.allows, refused))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    with pytest.raises(TypeError):
        write_json(path, {"a": 2, "b": object()})

    assert json.loads(path.read_text()) == {"a": 1}
