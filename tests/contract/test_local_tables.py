"""The tables of the embedded PostHog on the real engine: what is discovered can be read, and it is true."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from posthog_driver import PostHogClient, QueryError
from posthog_driver.local import LocalPostHog, database
from posthog_driver.local.schema import Catalog, hogql_name

LINKS = ("lazy_table", "virtual_table", "field_traverser")
NAMES = sorted(database.TABLES)
Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


@pytest.fixture(scope="module")
def own() -> Iterator[LocalPostHog]:
    """An embedded PostHog that holds only what these tests put into it."""
    with LocalPostHog(events=0) as local:
        yield local


# ------------------------------------------------------------------------------------------------ what is discovered


def test_every_table_that_is_not_hidden_is_an_object_of_the_client(client: PostHogClient) -> None:
    assert {name for name, table in database.TABLES.items() if not table.hidden} <= set(client.list_objects())


@pytest.mark.parametrize("name", NAMES)
def test_every_column_of_every_table_can_be_selected_and_filtered(client: PostHogClient, name: str) -> None:
    table = database.find_table(name, Catalog())
    assert table is not None
    columns = [hogql_name(column) for column in table.columns]
    client.query(f"SELECT {', '.join(columns)} FROM {name} LIMIT 3")
    client.query(f"SELECT * FROM {name} LIMIT 3")
    for column in columns:
        assert client.query(f"SELECT count() AS n FROM {name} WHERE {column} IS NULL AND NOT ({column} IS NULL)") == [
            {"n": 0}
        ]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_of_every_table_can_be_followed(client: PostHogClient, name: str) -> None:
    table = database.find_table(name, Catalog())
    assert table is not None
    for link, facts in table.links.items():
        target = database.find_table(facts.table, Catalog()) if facts.table else None
        columns = [*target.columns] if target else [column.name for column in facts.columns]
        if columns:
            named = ", ".join(f"t.{link}.{hogql_name(column)} AS c{i}" for i, column in enumerate(columns))
            client.query(f"SELECT {named} FROM {name} AS t LIMIT 1")


def test_the_information_schema_is_the_answer_to_a_database_schema_query(client: PostHogClient) -> None:
    rows = client.query("SELECT table_name, column_name FROM system.information_schema.columns LIMIT 50000")
    for name in client.query("SELECT table_name FROM system.information_schema.tables LIMIT 1000"):
        fields = client.get_fields(name["table_name"])
        plain = {field for field, facts in fields.items() if facts["type"] not in LINKS and "." not in field}
        found = {row["column_name"] for row in rows if row["table_name"] == name["table_name"]}
        assert {column for column in found if "." not in column and column not in fields} == set()
        assert plain - found <= {field for field in plain if field.startswith("properties")}


# ------------------------------------------------------------------------------------------------------ what is true


def test_a_person_is_reached_by_every_path(client: PostHogClient) -> None:
    (row,) = client.query(
        "SELECT count() AS n, countIf(person.id = pdi.person_id) AS by_id, "
        "countIf(poe.id = pdi.person.id) AS by_person, "
        "countIf(person_id = person.id) AS same, countIf(session.person_id IS NOT NULL) AS by_session FROM events"
    )
    assert row["n"] > 0
    assert row["by_id"] == row["by_person"] == row["same"] == row["n"]
    assert row["by_session"] > 0


def test_a_raw_table_has_at_least_the_rows_of_the_table_made_of_it(client: PostHogClient) -> None:
    for name in ("persons", "person_distinct_ids", "groups"):
        (row,) = client.query(f"SELECT (SELECT count() FROM raw_{name}) AS raw, (SELECT count() FROM {name}) AS newest")
        assert row["raw"] >= row["newest"] > 0


def test_the_members_of_cohorts_with_filters_are_in_cohort_people(client: PostHogClient) -> None:
    dynamic = client.query("SELECT id FROM system.cohorts WHERE is_static = 0 AND deleted = 0")
    for cohort in dynamic:
        number = cohort["id"]
        (row,) = client.query(
            f"SELECT (SELECT count() FROM cohort_people WHERE cohort_id = {number}) AS listed, "
            f"(SELECT count() FROM persons WHERE id IN COHORT {number}) AS found, "
            f"(SELECT count() FROM cohort_people WHERE cohort_id = {number} AND person.id = person_id) AS linked"
        )
        assert row["listed"] == row["found"] == row["linked"]
    assert dynamic


def test_a_group_has_the_properties_that_its_own_table_shows(client: PostHogClient) -> None:
    rows = client.query(
        "SELECT DISTINCT $group_0 AS key, group_0.properties.name AS name, group_0.index AS i FROM events "
        "WHERE $group_0 != '' ORDER BY key LIMIT 20"
    )
    direct = {
        row["key"]: row["name"] for row in client.query("SELECT key, properties.name AS name FROM groups LIMIT 9999")
    }
    assert rows
    assert {row["key"]: row["name"] for row in rows} == {row["key"]: direct[row["key"]] for row in rows}


def test_a_system_table_lists_the_entities_of_the_rest_api(client: PostHogClient, local_posthog: LocalPostHog) -> None:
    found = 0
    for name in ("insights", "dashboards", "feature_flags", "annotations", "actions", "surveys", "experiments"):
        listed = client.query(f"SELECT id FROM system.{name} LIMIT 1000")
        answer = requests.get(
            f"{local_posthog.url}/api/projects/{local_posthog.project_id}/{name}/",
            headers={"Authorization": f"Bearer {local_posthog.personal_api_key}"},
            params={"limit": "1000"},
            timeout=60,
        )
        assert {str(row["id"]) for row in listed} >= {str(entity["id"]) for entity in answer.json()["results"]}
        found += len(listed)
    assert found > 5


@pytest.mark.parametrize(
    "text",
    [
        "it's",
        'a "b"',
        "back\\slash \\' \\n",
        "line\nand\ttab",
        "é \u2028 \U0001f600",
        "{x} %s $1",
        "x\0y",
        "null",
        "[1]",
    ],
)
def test_a_text_of_an_entity_comes_back_as_it_is(own: LocalPostHog, text: str) -> None:
    made = requests.post(
        f"{own.url}/api/projects/{own.project_id}/annotations/",
        headers={"Authorization": f"Bearer {own.personal_api_key}"},
        json={"content": text, "date_marker": "2026-01-02T03:04:05Z"},
        timeout=60,
    )
    assert made.status_code == 201, made.text
    with own.client() as client:
        (row,) = client.query(
            "SELECT content, date_marker, deleted, created_by_id FROM system.annotations "
            f"WHERE id = {made.json()['id']}"
        )
    assert (row["content"], row["deleted"], row["created_by_id"]) == (text, 0, 1)
    assert str(row["date_marker"]).startswith("2026-01-02")


def test_a_system_table_can_be_filtered_joined_and_read_into(client: PostHogClient) -> None:
    rows = client.query(
        "SELECT f.key AS key, f.filters.groups AS groups, toDate(f.created_at) AS day, t.name AS project "
        "FROM system.feature_flags AS f JOIN system.teams AS t ON f.team_id = t.id WHERE f.deleted = 0 ORDER BY key"
    )
    assert rows
    assert all(json.loads(row["groups"]) for row in rows)


def test_a_table_that_is_missing_says_so(client: PostHogClient) -> None:
    with pytest.raises(QueryError, match=r"does not have the table system\.batch_exports"):
        client.query("SELECT 1 FROM system.batch_exports")


# ------------------------------------------------------------------------------------------------- sessions, channels

SESSION = "01900000-0000-7000-8000-%012d"

# What a page was opened with -> the channel, by the rules of https://posthog.com/docs/data/channel-type.
VISITS: list[tuple[dict[str, Any], str]] = [
    ({}, "Unknown"),
    ({"utm_source": "", "utm_medium": "", "gclid": "", "gad_source": ""}, "Unknown"),
    ({"$referring_domain": "$direct"}, "Direct"),
    ({"$referring_domain": "$direct", "utm_source": "null", "utm_medium": "null", "gclid": "null"}, "Direct"),
    ({"$referring_domain": "$direct", "utm_source": "(direct)"}, "Direct"),
    ({"$referring_domain": "$direct", "utm_source": "what", "utm_medium": "who", "utm_campaign": "me"}, "Direct"),
    ({"$referring_domain": "$direct", "utm_campaign": "cross-network"}, "Cross Network"),
    ({"$referring_domain": "www.ebay.co.uk", "utm_medium": "ppc"}, "Paid Shopping"),
    ({"utm_source": "ebay", "utm_medium": "ppc"}, "Paid Shopping"),
    ({"utm_campaign": "shopping", "utm_medium": "ppc"}, "Paid Shopping"),
    ({"utm_campaign": "spring-shop"}, "Organic Shopping"),
    ({"utm_campaign": "eshop", "$referring_domain": "example.com"}, "Organic Shopping"),
    ({"utm_campaign": "workshop", "$referring_domain": "example.com"}, "Referral"),
    ({"$referring_domain": "www.google.co.uk", "gclid": "x"}, "Paid Search"),
    ({"utm_source": "yahoo", "utm_medium": "ppc"}, "Paid Search"),
    ({"utm_source": "BING", "utm_medium": "CPC"}, "Paid Search"),
    ({"gad_source": "1", "$referring_domain": "$direct"}, "Paid Search"),
    ({"gclid": "x", "$referring_domain": "a.googlesyndication.com"}, "Paid Unknown"),
    ({"$referring_domain": "youtube.com", "utm_medium": "cpc"}, "Paid Video"),
    ({"utm_source": "youtube.com", "utm_medium": "cpc"}, "Paid Video"),
    ({"utm_medium": "paid", "utm_campaign": "my-video-ad"}, "Paid Video"),
    ({"utm_medium": "paid-social", "utm_source": "facebook", "fbclid": "x"}, "Paid Social"),
    ({"utm_medium": "paid", "fbclid": "x", "$referring_domain": "example.com"}, "Paid Social"),
    ({"utm_medium": "cpm"}, "Display"),
    ({"utm_medium": "cpv", "utm_source": "news.example"}, "Paid Unknown"),
    ({"utm_medium": "retargeting", "utm_source": "nobody"}, "Paid Unknown"),
    ({"$referring_domain": "www.google.com"}, "Organic Search"),
    ({"$referring_domain": "google.com.br"}, "Organic Search"),
    ({"$referring_domain": "uk.search.yahoo.com"}, "Organic Search"),
    ({"$referring_domain": "duckduckgo.com"}, "Organic Search"),
    ({"$referring_domain": "www.youtube.com"}, "Organic Video"),
    ({"utm_campaign": "our-video", "$referring_domain": "example.com"}, "Organic Video"),
    ({"$referring_domain": "l.facebook.com", "fbclid": "x"}, "Organic Social"),
    ({"$referring_domain": "$direct", "fbclid": "x"}, "Organic Social"),
    ({"$referring_domain": "old.reddit.com"}, "Organic Social"),
    ({"$referring_domain": "t.co"}, "Organic Social"),
    ({"utm_medium": "social", "$referring_domain": "example.com"}, "Organic Social"),
    ({"$referring_domain": "mail.google.com"}, "Email"),
    ({"utm_medium": "email"}, "Email"),
    ({"utm_source": "email", "$referring_domain": "$direct", "utm_medium": "x"}, "Email"),
    ({"utm_source": "sms"}, "SMS"),
    ({"utm_medium": "affiliate"}, "Affiliate"),
    ({"utm_medium": "audio"}, "Audio"),
    ({"utm_medium": "banner"}, "Display"),
    ({"utm_medium": "web-push"}, "Push"),
    ({"utm_medium": "push"}, "Push"),
    ({"$referring_domain": "chatgpt.com"}, "AI Assistant"),
    ({"$referring_domain": "some-unknown.example.com"}, "Referral"),
    ({"utm_source": 123, "utm_medium": 123, "utm_campaign": 123, "$referring_domain": "example.com"}, "Referral"),
]

TAGS: dict[str, tuple[Any, ...]] = {
    "utm_source": (None, None, "", "null", "google", "Facebook", "youtube.com", "email", "direct", "someone"),
    "utm_medium": (None, None, "", "cpc", "Paid-Social", "email", "social", "web-push", "display", "something"),
    "utm_campaign": (None, None, "", "cross-network", "Shopping week", "workshop", "a-video", "spring"),
    "$referring_domain": (
        None,
        "$direct",
        "$direct",
        "www.google.de",
        "t.co",
        "m.youtube.com",
        "chatgpt.com",
        "x.test",
    ),
    "gclid": (None, None, None, "", "null", "abc"),
    "fbclid": (None, None, None, "", "abc"),
    "gad_source": (None, None, None, "", "1", "5"),
}
KINDS = {
    "google": "Search",
    "www.google.de": "Search",
    "facebook": "Social",
    "t.co": "Social",
    "youtube.com": "Video",
    "m.youtube.com": "Video",
}
PAID_MEDIUMS = {"social": "Paid Social", "display": "Display"}
ORGANIC_MEDIUMS = {"social": "Organic Social", "display": "Display", "email": "Email"}


def channel_of(visit: dict[str, Any]) -> str:
    """The channel of a visit, from PostHog's documentation."""

    def tag(name: str) -> str:
        text = str(visit.get(name) or "").lower()
        return "" if text == "null" else text

    source, medium, campaign = tag("utm_source"), tag("utm_medium"), tag("utm_campaign")
    domain = visit.get("$referring_domain")
    is_shop = "shopping" in campaign or re.search("(^|[^a-df-z])shop", campaign) is not None
    if "cross-network" in campaign:
        return "Cross Network"
    if medium == "cpc" or medium.startswith("paid") or tag("gclid") or tag("gad_source"):
        if source in KINDS:
            return f"Paid {KINDS[source]}"
        if is_shop:
            return "Paid Shopping"
        if medium in PAID_MEDIUMS:
            return PAID_MEDIUMS[medium]
        if domain in KINDS:
            return f"Paid {KINDS[domain]}"
        if tag("gad_source") == "1":
            return "Paid Search"
        if "video" in campaign:
            return "Paid Video"
        return "Paid Social" if tag("fbclid") else "Paid Unknown"
    if domain == "$direct" and not medium and source in ("", "direct") and not tag("fbclid"):
        return "Direct"
    if source in KINDS:
        return f"Organic {KINDS[source]}"
    if source == "email":
        return "Email"
    if is_shop:
        return "Organic Shopping"
    if medium in ORGANIC_MEDIUMS:
        return ORGANIC_MEDIUMS[medium]
    if domain in KINDS:
        return f"Organic {KINDS[domain]}"
    if domain == "chatgpt.com":
        return "AI Assistant"
    if "video" in campaign:
        return "Organic Video"
    if medium.endswith("push"):
        return "Push"
    if tag("fbclid"):
        return "Organic Social"
    return "Direct" if domain == "$direct" else "Unknown" if domain is None else "Referral"


def _some_visits(count: int, seed: int) -> list[tuple[dict[str, Any], str]]:
    choose = random.Random(seed).choice
    drawn = ({name: choose(values) for name, values in TAGS.items()} for _ in range(count))
    visits = [{name: value for name, value in visit.items() if value is not None} for visit in drawn]
    return [(visit, channel_of(visit)) for visit in visits]


VISITS += _some_visits(800, 1)

DOMAINS = {
    "$direct": "$direct",
    "www.google.co.uk": "Search",
    "yahoo.co.jp": "Search",
    "m.alibaba.com": "Shopping",
    "stripe.com": "Shopping",
    "shopping.yahoo.co.jp": "Shopping",
    "lnkd.in": "Social",
    "old.reddit.com": "Social",
    "plus.google.com": "Social",
    "news.ycombinator.com": "Social",
    "vimeo.com": "Video",
    "mail.yahoo.com": "Email",
    "claude.ai": "AI",
    "example.com": None,
}


@pytest.fixture(scope="module")
def visits(own: LocalPostHog) -> Iterator[Rows]:
    """One session and one person for each row of `VISITS` and `DOMAINS`, and one session of several events."""
    batch = [
        {
            "event": "$pageview",
            "distinct_id": f"visitor-{number}",
            "timestamp": "2026-01-01T10:00:00Z",
            "properties": {
                **properties,
                "$session_id": SESSION % number,
                "$set_once": {f"$initial_{key.removeprefix('$')}": value for key, value in properties.items()},
            },
        }
        for number, (properties, _) in enumerate(VISITS)
    ]
    for domain in DOMAINS:
        properties = {"$set_once": {"$initial_referring_domain": domain}}
        batch.append({"event": "seen", "distinct_id": domain, "properties": properties})
    story: list[tuple[str, int, dict[str, Any]]] = [
        ("opened_app", 0, {"utm_source": "early", "$current_url": "https://app.test/start", "msclkid": "no"}),
        ("$pageview", 2, {"$current_url": "https://shop.test:8080/a?x=1", "utm_medium": "cpc", "msclkid": "m1"}),
        ("$autocapture", 3, {"$external_click_url": "https://else.test/"}),
        ("$pageview", 5, {"$current_url": "https://shop.test/b", "gclid": "late"}),
        ("closed_app", 8, {"$current_url": "https://app.test/end", "$web_vitals_LCP_value": 1234.5}),
    ]
    for event, second, properties in story:
        batch.append(
            {
                "event": event,
                "distinct_id": "story",
                "timestamp": f"2026-01-01T12:00:0{second}Z",
                "properties": {**properties, "$session_id": SESSION % 9999},
            }
        )
    with own.client() as client:
        body = {"api_key": own.project_api_key, "batch": batch, "historical_migration": False}
        response = requests.post(f"{own.url}/batch/", json=body, timeout=60)
        assert response.status_code == 200, response.text
        yield client.query


def test_a_session_has_the_channel_that_the_rules_say(visits: Rows) -> None:
    rows = visits("SELECT session_id, $channel_type AS channel FROM sessions ORDER BY session_id LIMIT 5000")
    found = {row["session_id"]: row["channel"] for row in rows}
    assert [(v, found[SESSION % n]) for n, (v, _) in enumerate(VISITS)] == VISITS


def test_a_person_and_an_event_have_the_channel_of_the_first_visit(visits: Rows) -> None:
    rows = visits(
        "SELECT distinct_id, person.$virt_initial_channel_type AS then, pdi.person.$virt_initial_channel_type AS now, "
        "session.$channel_type AS here FROM events WHERE distinct_id LIKE 'visitor-%' LIMIT 5000"
    )
    found = {row["distinct_id"]: {row["then"], row["now"], row["here"]} for row in rows}
    assert [(v, found[f"visitor-{n}"]) for n, (v, _) in enumerate(VISITS)] == [(v, {c}) for v, c in VISITS]


def test_a_person_has_the_type_of_the_domain_that_came_first(visits: Rows) -> None:
    rows = visits(
        "SELECT pdi.distinct_id AS domain, $virt_initial_referring_domain_type AS type FROM persons LIMIT 5000"
    )
    assert {row["domain"]: row["type"] for row in rows if row["domain"] in DOMAINS} == DOMAINS


def test_what_a_session_began_with_is_that_of_its_first_page(visits: Rows) -> None:
    (session,) = visits(f"SELECT * FROM sessions WHERE session_id = '{SESSION % 9999}'")
    expected = {
        "$entry_current_url": "https://shop.test:8080/a?x=1",
        "$entry_pathname": "/a",
        "$entry_hostname": "shop.test",
        "$end_current_url": "https://shop.test/b",
        "$end_pathname": "/b",
        "$last_external_click_url": "https://else.test/",
        "$urls": ["https://shop.test/b", "https://shop.test:8080/a?x=1"],
        "$num_uniq_urls": 2,
        "$entry_utm_source": "early",
        "$entry_utm_medium": "cpc",
        "$entry_gclid": "late",
        "$entry_has_gclid": False,
        "$entry_msclkid": "m1",
        "$entry_has_msclkid": True,
        "$entry_twclid": "",
        "$entry_has_twclid": False,
        "$session_duration": 8,
        "$pageview_count": 2,
        "$autocapture_count": 1,
        "$is_bounce": False,
        "$vitals_lcp": 1234.5,
        "$channel_type": "Paid Unknown",
    }
    assert {name: session[name] for name in expected} == expected
    assert not {"id", "duration", "$exit_pathname", "session_id_v7"} & set(session)


def test_an_event_and_its_session_share_their_number(visits: Rows) -> None:
    rows = visits(
        "SELECT DISTINCT e.$session_id AS id, s.session_id AS same FROM events AS e "
        "JOIN sessions AS s ON e.$session_id_uuid = s.session_id_v7 LIMIT 5000"
    )
    assert len(rows) == len(VISITS) + 1
    assert all(row["id"] == row["same"] for row in rows)
