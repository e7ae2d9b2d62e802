"""An embedded PostHog that is killed while it takes events: nothing that it confirmed is lost or doubled.

Senders behave as SDKs do: a batch without an answer is sent again, with the same UUIDs. Whatever a kill left half
written, events, persons and the names that lead to them must fit together once the repeats are in.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from posthog_driver.local import LocalPostHog

HANG = 60.0
KILLS = 6
BATCH = 25


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another process is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(6000):
        with suppress(requests.RequestException):
            if condition():
                return
        pause.wait(0.01)
    raise AssertionError("it never became true")


class Sender(threading.Thread):
    """Sends batches one after the other, each until it is confirmed, about visitors who sign in later.

    Attributes:
        confirmed: Each event's UUID, with its name and distinct_id.
        merged: Names that were declared to be one person, in batches that were confirmed.
    """

    def __init__(self, local: LocalPostHog, number: int) -> None:
        super().__init__()
        self._local = local
        self._number = number
        self._random = random.Random(number)
        self._token = local.project_api_key
        self.enough = threading.Event()
        self.confirmed: dict[str, tuple[str, str]] = {}
        self.merged: list[tuple[str, str]] = []

    def run(self) -> None:
        """Send until told that it is enough."""
        count = 0
        while not self.enough.is_set():
            count += 1
            batch, pair = self._batch(count)
            self._deliver(batch)
            self.confirmed.update({event["uuid"]: (event["event"], event["distinct_id"]) for event in batch})
            self.merged.append(pair)

    def _batch(self, count: int) -> tuple[list[dict[str, Any]], tuple[str, str]]:
        visitor, user = f"visitor-{self._number}-{count}", f"user-{self._number}-{count % 5}"
        events: list[dict[str, Any]] = [
            {
                "event": f"seen {self._random.randrange(3)}",
                "distinct_id": self._random.choice([visitor, user]),
                "properties": {"$groups": {"company": f"c{count % 3}"}, "$set": {f"s{self._number}": count}},
            }
            for _ in range(BATCH - 1)
        ]
        known = {"event": "$identify", "distinct_id": user, "properties": {"$anon_distinct_id": visitor}}
        events.insert(self._random.randrange(BATCH), known)
        return [{"uuid": str(uuid.uuid4()), **event} for event in events], (visitor, user)

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        """Send a batch until there is an answer."""
        pause = threading.Event()
        for _ in range(6000):
            with suppress(requests.RequestException):
                body = {"api_key": self._token, "batch": batch}
                answer = requests.post(f"{self._local.url}/batch/", json=body, timeout=HANG)
                if answer.status_code == 200:
                    return
                assert answer.status_code == 503, answer.text
            pause.wait(0.01)
        raise AssertionError("a batch was never confirmed")


def rows(local: LocalPostHog, hogql: str) -> list[list[Any]]:
    answer = requests.post(
        f"{local.url}/api/projects/1/query/",
        json={"query": {"kind": "HogQLQuery", "query": hogql}, "refresh": "force_blocking"},
        headers={"Authorization": f"Bearer {local.personal_api_key}"},
        timeout=HANG,
    )
    assert answer.status_code == 200, answer.text
    found: list[list[Any]] = answer.json()["results"]
    return found


def all_events(local: LocalPostHog) -> list[list[Any]]:
    """Every event, in parts that stay under the limit of an answer."""
    asked = (
        "SELECT toString(uuid), event, distinct_id, toString(person_id) FROM events "
        "WHERE startsWith(toString(uuid), '{}') LIMIT 50000"
    )
    return [row for digit in "0123456789abcdef" for row in rows(local, asked.replace("{}", digit))]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was confirmed over several kills, and what is there after the directory was opened once more."""
    directory: Path = tmp_path_factory.mktemp("killed")
    with LocalPostHog(directory, events=0) as local:
        senders = [Sender(local, number) for number in range(3)]
        for sender in senders:
            sender.start()
        chance = random.Random(7)
        for _ in range(KILLS):
            before = sum(len(sender.confirmed) for sender in senders)
            wanted = before + BATCH * chance.randrange(4, 9)
            until(lambda: sum(len(sender.confirmed) for sender in senders) >= wanted)  # noqa: B023 - called at once
            process = local._process
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: local._process is not process)  # noqa: B023
        for sender in senders:
            sender.enough.set()
        for sender in senders:
            sender.join(HANG)
        assert not any(sender.is_alive() for sender in senders)
    with LocalPostHog(directory, events=0) as again:
        persons = "SELECT toString(id), is_identified, JSONExtractKeys(properties) FROM persons LIMIT 50000"
        links = "SELECT distinct_id, toString(person_id) FROM person_distinct_ids LIMIT 50000"
        return {
            "confirmed": {uuid: what for sender in senders for uuid, what in sender.confirmed.items()},
            "merged": [pair for sender in senders for pair in sender.merged],
            "events": all_events(again),
            "persons": {id: (bool(identified), names) for id, identified, names in rows(again, persons)},
            "links": dict(map(tuple, rows(again, links))),
            "groups": rows(again, "SELECT DISTINCT $group_0 FROM events WHERE event != '$identify' ORDER BY $group_0"),
        }


def test_every_confirmed_event_is_there_exactly_once(story: dict[str, Any]) -> None:
    found = {id: (event, distinct_id) for id, event, distinct_id, _ in story["events"]}

    assert len(story["confirmed"]) >= KILLS * BATCH
    assert len(story["events"]) == len(found)
    assert found == story["confirmed"]


def test_every_event_leads_to_the_person_of_its_name(story: dict[str, Any]) -> None:
    persons, links = story["persons"], story["links"]

    assert {distinct_id for _, _, distinct_id, _ in story["events"]} <= set(links)
    assert [row for row in story["events"] if row[3] != links[row[2]]] == []
    assert set(links.values()) == set(persons)


def test_who_signed_in_is_one_person_with_their_visits(story: dict[str, Any]) -> None:
    links = story["links"]

    assert [pair for pair in story["merged"] if links.get(pair[0], "") != links[pair[1]]] == []
    assert all(identified for identified, _ in story["persons"].values())
    assert all(names for _, names in story["persons"].values())


def test_the_groups_of_events_keep_their_place(story: dict[str, Any]) -> None:
    assert story["groups"] == [["c0"], ["c1"], ["c2"]]
