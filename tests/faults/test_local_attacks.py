"""Callers and files that mean harm: keys that reach for more than they may, requests that are none, damaged files."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from posthog_driver.exceptions import PostHogError
from posthog_driver.local import LocalPostHog
from posthog_driver.local.capture_body import parse_events
from posthog_driver.local.entities import EntityStore
from posthog_driver.local.identities import Identities
from posthog_driver.local.ingest import Ingestion
from posthog_driver.local.schema import DATABASE
from tests.engines import engines

SYSTEM = "(SELECT count() FROM system.insights)"
HANG = 60.0


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    """An embedded PostHog with a few events and the demo entities."""
    with LocalPostHog(events=200) as running:
        yield running


def ask(local: LocalPostHog, method: str, path: str, body: Any = None, key: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {key or local.personal_api_key}"}
    return requests.request(method, local.url + path, json=body, headers=headers, timeout=HANG)


def new_key(local: LocalPostHog, *scopes: str) -> str:
    made = ask(local, "POST", "/api/personal_api_keys/", {"label": "Some", "scopes": scopes, "scoped_teams": []})
    return str(made.json()["value"])


def refusal(response: requests.Response) -> str:
    assert response.status_code == 400, response.text
    return str(response.json()["detail"]).splitlines()[0]


# ------------------------------------------------------------------------------------- keys that reach for more

NO_ACCESS = "You don't have access to table `system.insights`."


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("query:read", f"events/?select={quote(json.dumps([SYSTEM]))}"),
        ("query:read", f"events/?where={quote(json.dumps([f'{SYSTEM} > 0']))}"),
        ("query:read", f"events/?properties={quote(json.dumps([{'type': 'hogql', 'key': f'{SYSTEM} > 0'}]))}"),
        ("person:read", f"persons/?properties={quote(json.dumps([{'type': 'hogql', 'key': f'{SYSTEM} > 0'}]))}"),
    ],
)
def test_a_filter_in_an_address_reads_no_system_table(local: LocalPostHog, scope: str, path: str) -> None:
    key = new_key(local, scope)

    assert ask(local, "GET", f"/api/projects/1/{path.partition('?')[0]}", key=key).status_code == 200
    assert refusal(ask(local, "GET", f"/api/projects/1/{path}", key=key)) == NO_ACCESS


def test_an_insight_shows_a_system_table_only_to_keys_that_may_read_it(local: LocalPostHog) -> None:
    query = {"kind": "HogQLQuery", "query": "SELECT key FROM system.feature_flags"}
    insight = ask(local, "POST", "/api/projects/1/insights/", {"name": "Flags", "query": query}).json()
    board = ask(local, "POST", "/api/projects/1/dashboards/", {"name": "Flags"}).json()
    ask(local, "PATCH", f"/api/projects/1/insights/{insight['id']}/", {"dashboards": [board["id"]]})
    path, tiles = (
        f"/api/projects/1/insights/{insight['id']}/",
        f"/api/projects/1/dashboards/{board['id']}/run_insights/",
    )
    without, with_it = (
        new_key(local, "insight:read", "dashboard:read"),
        new_key(local, "insight:read", "feature_flag:read"),
    )

    assert ask(local, "GET", f"{path}?refresh=blocking").json()["result"]
    assert ask(local, "GET", f"{path}?refresh=blocking", key=with_it).json()["result"]
    assert "system.feature_flags" in refusal(ask(local, "GET", f"{path}?refresh=blocking", key=without))
    assert ask(local, "GET", path, key=without).json()["result"] is None
    assert [tile["result"] for tile in ask(local, "GET", tiles, key=without).json()["results"]] == [None]
    assert ask(local, "GET", tiles).json()["results"][0]["result"]


def test_the_user_of_a_key_for_one_project_is_shown_in_that_one(local: LocalPostHog) -> None:
    other = local.new_project("Other")
    shown = ask(local, "GET", "/api/users/@me/", key=other.personal_api_key)

    assert shown.json()["team"]["id"] == other.project_id
    assert local.project_api_key not in shown.text
    assert ask(local, "GET", "/api/users/@me/").json()["team"]["id"] == 1


def test_the_user_of_a_key_whose_projects_are_gone_is_shown_in_none(local: LocalPostHog) -> None:
    first, second = local.new_project("First"), local.new_project("Second")
    teams = [first.project_id, second.project_id]
    made = ask(local, "POST", "/api/personal_api_keys/", {"label": "Two", "scopes": ["*"], "scoped_teams": teams})
    for project in (first, second):
        local.drop_project(project)

    assert ask(local, "GET", "/api/users/@me/", key=made.json()["value"]).json()["team"] is None


# ------------------------------------------------------------------------------------------ requests that are none


@pytest.mark.parametrize("text", ["<Sparkline data={[1]} />", "<file path='/etc/hostname' />"])
def test_a_text_that_is_no_query_is_refused(local: LocalPostHog, text: str) -> None:
    query = {"kind": "HogQLQuery", "query": text}

    assert refusal(ask(local, "POST", "/api/projects/1/query/", {"query": query})) == "A HogQLXTag is no query"
    actors = {"kind": "ActorsQuery", "select": ["id"], "source": query}
    assert refusal(ask(local, "POST", "/api/projects/1/query/", {"query": actors})) == "Source query must be a SELECT."


@pytest.mark.parametrize("text", ["{filters}", "{variables.x}"])
def test_actors_of_a_placeholder_are_refused(local: LocalPostHog, text: str) -> None:
    actors = {"kind": "ActorsQuery", "select": ["id"], "source": {"kind": "HogQLQuery", "query": text}}

    assert refusal(ask(local, "POST", "/api/projects/1/query/", {"query": actors})) == "Source query must be a SELECT."


@pytest.mark.parametrize(("name", "value"), [("query", {"kind": "HogQLQuery", "query": "SELECT 1"}), ("groups", [{}])])
def test_a_cohort_that_would_be_everybody_by_mistake_is_refused(local: LocalPostHog, name: str, value: Any) -> None:
    made = ask(local, "POST", "/api/projects/1/cohorts/", {"name": "Some", name: value})

    assert refusal(made) == f"The embedded server does not have {name} of cohorts."


HEAD = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b'"</x>\\ a b c\r\n\r\n', 400),
        (b"\xff\xfe\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
        (b"FOO / HTTP/1.1\r\n" + HEAD + b"\r\n", 501),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_http_is_answered_with_an_error_body_and_ends_the_connection(
    local: LocalPostHog, sent: bytes, status: int
) -> None:
    address = urlsplit(local.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=HANG) as connection:
        connection.sendall(sent)
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")

    error = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/json" in head
    assert set(error) == {"type", "code", "detail", "attr"}
    assert error["detail"]


# -------------------------------------------------------------------------------------------------- files on the disk


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with every file that there can be, which no server uses."""
    directory = tmp_path_factory.mktemp("kept") / "data"
    with LocalPostHog(directory, events=50) as running:
        running.new_project("Second")
    return directory


def test_what_is_kept_is_for_its_owner_alone(kept: Path) -> None:
    found = [kept, *kept.rglob("*")]
    modes = {path.relative_to(kept): stat.S_IMODE(path.lstat().st_mode) for path in found if not path.is_symlink()}

    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    assert {"demo.json", "entities.json", "entities_2.json", "keys.json", "projects.json"} <= set(map(str, modes))


@pytest.mark.parametrize("name", ["demo.json", "entities.json", "entities_2.json", "keys.json", "projects.json"])
@pytest.mark.parametrize("content", [b"", b"null", b"\xff\xfe", b'[1, "a"]', b'{"insights": 5}', b"cut"])
def test_a_damaged_file_is_named_and_left_as_it_is(kept: Path, name: str, content: bytes) -> None:
    path = kept / name
    whole = path.read_bytes()
    damaged = whole[: len(whole) // 2] if content == b"cut" else content
    path.write_bytes(damaged)
    try:
        with pytest.raises(PostHogError, match="is damaged") as caught:
            LocalPostHog(kept, events=50)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == damaged
    finally:
        path.write_bytes(whole)


def test_a_directory_is_opened_again_when_its_file_is_put_back(kept: Path) -> None:
    path = kept / "projects.json"
    whole = path.read_bytes()
    path.write_bytes(b"{}")
    with pytest.raises(PostHogError, match="put a copy of it back"):
        LocalPostHog(kept, events=50)
    path.write_bytes(whole)

    with LocalPostHog(kept, events=50) as again:
        assert len(ask(again, "GET", "/api/projects/").json()["results"]) == 2


# ---------------------------------------------------------------------------------------------- a clock that is set


def test_names_and_members_follow_the_last_word_though_the_clock_goes_back() -> None:
    clock = iter((4e9, 3e9, 2e9, 1e9))
    with engines() as manager:
        engine = manager.Engine()

        def store(event: str, distinct_id: str, **properties: Any) -> Identities:
            ingestion = Ingestion(engine, EntityStore({}), DATABASE)
            ingestion.identities = Identities(engine, DATABASE, clock=lambda: next(clock))  # as after a restart
            sent = [{"event": event, "distinct_id": distinct_id, "properties": properties}]
            ingestion.store(parse_events(sent, datetime.now(timezone.utc)))
            return ingestion.identities

        store("visit", "visitor")
        store("visit", "ada")
        identities = store("$identify", "ada", **{"$anon_distinct_id": "visitor"})
        links = identities.links(["visitor", "ada"])
        first = identities.next_version()

        assert len(links) == 2
        assert len(set(links.values())) == 1
        assert identities.names(links.values()) == {links["ada"]: ["ada", "visitor"]}
        assert first > 4e9 * 1e6
        assert engine.close()
