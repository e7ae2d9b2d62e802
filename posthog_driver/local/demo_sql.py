"""The statements that generate the demo data. The model is described in `posthog_driver.local.demo`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .demo_catalog import EXPERIMENT_FLAG, HOST, PREVIEW_FLAG
from .schema import DATABASE, quote_literal, quote_name
from .storage import MATERIALIZED_EVENT_PROPERTIES, materialized_name

WORK = "posthog_demo"
"""The database of the working tables; it is gone when the data are there."""

_FLAG_SCALE = 0xFFFFFFFFFFFFFFF
_2_64 = "18446744073709551616."


@dataclass(frozen=True)
class Plan:
    """The arguments of one data set.

    Attributes:
        events: Number of events.
        seed: What all choices depend on.
        end: End of the period, a midnight in UTC.
        days: Length of the period.
    """

    events: int
    seed: int
    end: datetime
    days: int

    @property
    def start(self) -> datetime:
        """Begin of the period."""
        return self.end - timedelta(days=self.days)

    def to_json(self) -> dict[str, Any]:
        """The arguments as JSON has them."""
        return {"events": self.events, "seed": self.seed, "end": self.end.isoformat(), "days": self.days}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        """What `to_json` gave."""
        return cls(stored["events"], stored["seed"], datetime.fromisoformat(stored["end"]), stored["days"])


# ---------------------------------------------------------------------------------------------- pieces of SQL


def literal(value: str | float) -> str:
    """A text or number as SQL."""
    return quote_literal(value) if isinstance(value, str) else str(value)


def array(values: Sequence[str | float]) -> str:
    """A list as SQL."""
    return f"[{', '.join(literal(value) for value in values)}]"


def _pick(values: Sequence[str | float], number: str) -> str:
    return f"{array(values)}[1 + {number} % {len(values)}]"


def _choice(values: Sequence[tuple[str, float]], unit: str) -> str:
    """A weighted choice; the weights add up to one."""
    branches, total = [], 0.0
    for value, weight in values[:-1]:
        total = round(total + weight, 6)
        branches.append(f"{unit} < {total}, {literal(value)}")
    return f"multiIf({', '.join(branches)}, {literal(values[-1][0])})"


def _choice_by(by: str, table: Mapping[str, Sequence[tuple[str, float]]], unit: str) -> str:
    branches = [f"{by} = {literal(key)}, {_choice(choices, unit)}" for key, choices in table.items()]
    return f"multiIf({', '.join(branches)}, '')"


def _map(values: Mapping[str, str], key: str, default: str = "") -> str:
    return f"transform({key}, {array(list(values))}, {array(list(values.values()))}, {literal(default)})"


def _named(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in columns.items())


def _uuid(high: str, low: str, version: int) -> str:
    """A valid UUID out of two 64-bit numbers."""
    head = f"bitOr(bitAnd({high}, {0xFFFFFFFFFFFF0FFF}), {version << 12})"
    tail = f"bitOr(bitAnd({low}, {0x3FFFFFFFFFFFFFFF}), {1 << 63})"
    return f"reinterpret(bitOr(bitShiftLeft(toUInt128({tail}), 64), toUInt128({head})), 'UUID')"


def _uuid7(milliseconds: str, key: str) -> str:
    """A UUID of version 7: 48 bits of time, the rest from a number."""
    high = f"bitOr(bitShiftLeft(toUInt64({milliseconds}), 16), bitAnd({key}, 4095))"
    return _uuid(high, f"cityHash64({key})", 7)


def _flag_number(flag: str, distinct_id: str, salt: str = "") -> str:
    """PostHog's own number between 0 and 1 for a flag and a distinct_id: 15 hex digits of a SHA-1."""
    digest = f"SHA1(concat({literal(flag + '.')}, {distinct_id}, {literal(salt)}))"
    return f"(bitShiftRight(reinterpretAsUInt64(reverse(substring({digest}, 1, 8))), 4) / {_FLAG_SCALE})"


def _pairs(pairs: Mapping[str, str]) -> str:
    """SQL for the inside of a JSON object, from keys and from SQL of values that are JSON already."""
    parts: list[str] = []
    for key, value in pairs.items():
        parts += [literal(f"{',' if parts else ''}{json.dumps(key)}:"), value]
    return f"concat({', '.join(parts)})"


def _pairs_if(condition: str, pairs: Mapping[str, str]) -> str:
    """SQL for pairs that are there on a condition, with the comma before them."""
    return f"if({condition}, concat(',', {_pairs(pairs)}), '')"


def _text(sql: str) -> str:
    """SQL for a JSON string; only for texts of ours, which need no escapes."""
    return f"concat('\"', {sql}, '\"')"


def _constant(value: Any) -> str:
    return literal(json.dumps(value))


def _bool(sql: str) -> str:
    return f"if({sql}, 'true', 'false')"


def _time(sql: str) -> str:
    return f"concat('\"', formatDateTime({sql}, '%Y-%m-%dT%H:%i:%SZ', 'UTC'), '\"')"


# -------------------------------------------------------------------------------------- who and what there is

_DEVICES = (("Desktop", 0.62), ("Mobile", 0.33), ("Tablet", 0.05))
_SYSTEMS = {
    "Desktop": (("Windows", 0.5), ("Mac OS X", 0.38), ("Linux", 0.12)),
    "Mobile": (("iOS", 0.52), ("Android", 0.48)),
    "Tablet": (("iOS", 0.7), ("Android", 0.3)),
}
_BROWSERS = {
    "Windows": (("Chrome", 0.6), ("Microsoft Edge", 0.26), ("Firefox", 0.14)),
    "Mac OS X": (("Chrome", 0.52), ("Safari", 0.39), ("Firefox", 0.09)),
    "Linux": (("Chrome", 0.55), ("Firefox", 0.45)),
    "iOS": (("Mobile Safari", 0.82), ("Chrome iOS", 0.18)),
    "Android": (("Chrome", 0.86), ("Samsung Internet", 0.14)),
}
_COUNTRIES = {
    "US": ("United States", 0.44),
    "DE": ("Germany", 0.11),
    "GB": ("United Kingdom", 0.1),
    "FR": ("France", 0.07),
    "IN": ("India", 0.07),
    "CA": ("Canada", 0.06),
    "BR": ("Brazil", 0.05),
    "NL": ("Netherlands", 0.04),
    "JP": ("Japan", 0.03),
    "AU": ("Australia", 0.03),
}
_SOURCES = (
    ("direct", 0.22),
    ("google", 0.4),
    ("bing", 0.06),
    ("partner", 0.12),
    ("spring-launch", 0.09),
    ("team-plans", 0.06),
    ("monthly-digest", 0.05),
)
_REFERRERS = {
    "google": "www.google.com",
    "bing": "www.bing.com",
    "partner": "reviews.example.org",
    "spring-launch": "www.google.com",
    "team-plans": "www.linkedin.com",
}
_UTM_SOURCES = {"spring-launch": "google", "team-plans": "linkedin", "monthly-digest": "newsletter"}
_UTM_MEDIA = {"spring-launch": "cpc", "team-plans": "social", "monthly-digest": "email"}
_FIRST_NAMES = {
    "ada": "Ada", "bjorn": "Björn", "chloe": "Chloé", "dev": "Dev", "emma": "Emma", "farid": "Farid",
    "grace": "Grace", "hana": "Hana", "iker": "Iker", "jana": "Jana", "kofi": "Kofi", "lena": "Lena",
    "mateo": "Mateo", "nia": "Nia", "omar": "Omar", "priya": "Priya", "quinn": "Quinn", "rosa": "Rosa",
    "sven": "Sven", "tara": "Tara", "uma": "Uma", "vera": "Vera", "wei": "Wei", "yusuf": "Yusuf", "zoe": "Zoë",
}  # fmt: skip
_LAST_NAMES = (
    "Adler", "Brook", "Costa", "Dahl", "Eze", "Fischer", "Gupta", "Haddad", "Ito", "Jansen",
    "Kaya", "Lopez", "Meyer", "Novak", "Okafor", "Patel", "Rossi", "Silva", "Tanaka", "Weber",
)  # fmt: skip
_COMPANY_NAMES = (
    ("Amber", "Blue", "Cedar", "Delta", "Ember", "Flint", "Granite", "Harbor", "Iron", "Juniper"),
    ("Analytics", "Foods", "Freight", "Labs", "Legal", "Media", "Mills", "Robotics", "Studio", "Travel"),
)
_INDUSTRIES = ("software", "food", "logistics", "research", "law", "media", "manufacturing", "travel")
_FILE_TYPES = ("pdf", "docx", "xlsx", "png", "jpg", "mp4", "zip")
_WORKING_HOURS = (8, 9, 9, 10, 10, 10, 11, 11, 12, 13, 13, 14, 14, 14, 15, 15, 16, 16, 17, 18)
_LEISURE_HOURS = (6, 7, 8, 9, 10, 11, 12, 12, 13, 15, 16, 17, 18, 18, 19, 19, 20, 20, 20, 21, 21, 22)


@dataclass(frozen=True)
class Action:
    """Something a person does in a session; one event.

    Attributes:
        name: Our name for it.
        event: The event's name.
        path: The page.
        elements: The element clicked, as PostHog prints it.
    """

    name: str
    event: str
    path: str
    elements: str = ""


ACTIONS = (
    Action("home", "$pageview", "/"),
    Action("pricing", "$pageview", "/pricing"),
    Action("features", "$pageview", "/features"),
    Action("help", "$pageview", "/help"),
    Action("signup", "$pageview", "/signup"),
    Action("login", "$pageview", "/login"),
    Action("files", "$pageview", "/files"),
    Action("shared", "$pageview", "/files/shared"),
    Action("billing", "$pageview", "/settings/billing"),
    Action("flag", "$feature_flag_called", "/signup"),
    Action("identify", "$identify", "/signup"),
    Action("sign up", "signed_up", "/signup"),
    Action("join company", "$groupidentify", "/signup"),
    Action("log in", "logged_in", "/login"),
    Action("log out", "logged_out", "/files"),
    Action("upload", "file_uploaded", "/files"),
    Action("download", "file_downloaded", "/files"),
    Action("delete", "file_deleted", "/files"),
    Action("share", "link_shared", "/files/shared"),
    Action("invite", "teammate_invited", "/settings/team"),
    Action("upgrade", "plan_upgraded", "/settings/billing"),
    Action("pay", "invoice_paid", "/settings/billing"),
    Action(
        "click pricing",
        "$autocapture",
        "/",
        'a.nav-link:attr__href="/pricing"href="/pricing"nth-child="2"nth-of-type="2"text="Pricing";'
        'nav:nth-child="1"nth-of-type="1"',
    ),
    Action(
        "click upload",
        "$autocapture",
        "/files",
        'button.primary:attr_id="upload"nth-child="1"nth-of-type="1"text="Upload";main:nth-child="2"nth-of-type="1"',
    ),
    Action("leave site", "$pageleave", "/"),
    Action("leave files", "$pageleave", "/files"),
)
"""Sessions store the position in this list, counted from one."""

CODES = {action.name: code for code, action in enumerate(ACTIONS, start=1)}
_PAGES = tuple(action.name for action in ACTIONS if action.event == "$pageview")


def _codes(*names: str) -> str:
    return array([CODES[name] for name in names])


# --------------------------------------------------------------------------------------------- the statements


class Statements:
    """The statements that generate one data set, slice by slice of its persons.

    The working tables hold one slice: ``drafts`` and ``visits`` of all its persons, ``people`` and ``sessions`` of
    those who are taken. Only ``companies`` grows from slice to slice.

    Args:
        plan: Which one.
    """

    def __init__(self, plan: Plan) -> None:
        """Keep the plan, and print its begin."""
        self.plan = plan
        self._start = f"toDateTime({int(plan.start.timestamp())}, 'UTC')"

    def drafts(self, first: int, last: int) -> str:
        """Persons: one for each number from ``first`` up to but without ``last``."""
        company = (
            f"1 + floor({max(3, self.plan.events // 1000)} * {self._unit('company')} * {self._unit('company size')})"
        )
        first_name, last_name = self._hash("first name"), _pick(_LAST_NAMES, self._hash("last name"))
        company_key = ", '-', ".join(
            f"lower({_pick(names, number)})"
            for names, number in zip(_COMPANY_NAMES, ("company", "intDiv(company, 10)"), strict=True)
        )
        columns = {
            "i": "toUInt32(number)",
            "old": f"{self._unit('old')} < 0.1",
            "first_day": f"toUInt32(if(old, 0, {self._arrival_day()}))",
            "upgrade_day": f"first_day + 1 + {self._hash('upgrade')} % 10",
            "company": f"toUInt32(if({self._unit('business')} < 0.25, {company}, 0))",
            "anonymous_id": f"toString({_uuid(self._hash('anonymous 1'), self._hash('anonymous 2'), 7)})",
            "user_id": "concat('user-', leftPad(toString(i + 1), 6, '0'))",
            "flag_id": "if(old, user_id, anonymous_id)",
            "variant": f"if({_flag_number(EXPERIMENT_FLAG, 'flag_id', 'variant')} < 0.5, 'control', 'test')",
            "preview": f"{_flag_number(PREVIEW_FLAG, 'flag_id')} <= 0.5",
            "depth": f"toUInt8({self._depth()})",
            "loyal": self._unit("loyal"),
            "loyalty": "multiIf(loyal < 0.15, 0.34, loyal < 0.5, 0.1, 0.025)",
            "lasting": "multiIf(old, 1000, depth >= 5, 200, depth = 4, 30, 8)",
            "device": _choice(_DEVICES, self._unit("device")),
            "os": _choice_by("device", _SYSTEMS, self._unit("os")),
            "browser": _choice_by("os", _BROWSERS, self._unit("browser")),
            "browser_version": f"120 + {self._hash('version')} % 20",
            "country": _choice([(code, row[1]) for code, row in _COUNTRIES.items()], self._unit("country")),
            "source": _choice(_SOURCES, self._unit("source")),
            "first_seen": self._first_seen(),
            "person_id": _uuid(self._hash("person 1"), self._hash("person 2"), 5),
            "name": f"concat({_pick(list(_FIRST_NAMES.values()), first_name)}, ' ', {last_name})",
            "company_key": f"if(company > 0, concat({company_key}, '-', toString(company)), '')",
            "host": "if(company > 0, concat(company_key, '.example'), 'mail.example')",
            "email": f"concat({_pick(list(_FIRST_NAMES), first_name)}, '.', lower({last_name}), "
            "toString(i + 1), '@', host)",
            "plan": "multiIf(depth < 3, '', depth < 5, 'free', company > 0, 'team', 'pro')",
            "seats": f"if(plan = 'team', 2 + {self._hash('seats', 'company')} % 30, 1)",
        }
        numbers = f"numbers({first}, {last - first})"
        return f"CREATE TABLE {WORK}.drafts ENGINE = Memory AS SELECT {_named(columns)} FROM {numbers}"

    def visits(self) -> str:
        """The sessions of the drafts: when, and what was done, as positions in `ACTIONS`."""
        workday = f"toDayOfWeek({self._start} + toIntervalDay(d)) <= 5"
        weekday = f"if(company > 0, if({workday}, 1.3, 0.25), if({workday}, 1, 0.8))"
        since = "(d - first_day)"
        chance = f"""if(depth >= 3,
            loyalty * {weekday} * lasting / (lasting + {since}),
            if({since} < 15, 0.025, 0))"""
        days = f"""arrayFilter(
            d -> (NOT old AND (d = first_day OR depth = 5 AND d = upgrade_day))
                OR {self._unit("visit", "i", "d")} < {chance},
            range(first_day, {self.plan.days}))"""
        return f"""CREATE TABLE {WORK}.visits ENGINE = Memory AS
            SELECT i, day, {self._done()} AS codes
            FROM (SELECT *, arrayJoin({days}) AS day FROM {WORK}.drafts)"""

    def people(self, count: int, rest: int) -> str:
        """The persons who are taken: ``count`` drafts, and the visitor who has the ``rest`` of the events."""
        last = f"i = {count}"
        initial = {
            "$geoip_country_code": _text("country"),
            "$geoip_country_name": _text("country_name"),
            "$initial_browser": _text("browser"),
            "$initial_os": _text("os"),
            "$initial_device_type": _text("device"),
            "$initial_referring_domain": _text(_map(_REFERRERS, "source", "$direct")),
        }
        campaign = {"$initial_utm_source": _text("utm_source"), "$initial_utm_campaign": _text("source")}
        known = {
            "email": _text("email"),
            "name": _text("name"),
            "plan": _text("plan"),
            "is_paying": _bool("depth >= 5"),
            "seats": "toString(seats)",
            "signed_up_at": _time("first_seen"),
        }
        company = _pairs_if("company > 0", {"company": _text("company_key")})
        names = {code: name for code, (name, _) in _COUNTRIES.items()}
        return f"""CREATE TABLE {WORK}.people ENGINE = Memory AS
            SELECT * REPLACE(
                    if({last}, 0, old) AS old,
                    if({last}, 1, depth) AS depth,
                    if({last}, 0, company) AS company,
                    if({last}, 0, first_day) AS first_day,
                    if({last}, {self._start}, first_seen) AS first_seen),
                {_map(names, "country")} AS country_name,
                {_map(_UTM_SOURCES, "source")} AS utm_source,
                concat({_pairs(initial)}, {_pairs_if("utm_source != ''", campaign)}) AS initial,
                concat('{{', initial, '}}') AS anonymous_properties,
                concat('{{', {_pairs(known)}, {company}, ',', initial, '}}') AS known_properties
            FROM {WORK}.drafts WHERE i < {count + (rest > 0)}"""

    def sessions(self, count: int, rest: int) -> str:
        """The sessions of the persons who are taken; the last visitor opens up to five pages in each."""
        pages = _pick([CODES[page] for page in ("home", "pricing", "features", "help")], "k")
        return f"""CREATE TABLE {WORK}.sessions ENGINE = Memory AS
            SELECT i, day, codes, toUInt32(0) AS extra FROM {WORK}.visits WHERE i < {count}
            UNION ALL
            SELECT toUInt32({count}), toUInt32(number % {self.plan.days}),
                CAST(arrayMap(k -> {pages}, range(least(5, {rest} - 5 * number))), 'Array(UInt8)'),
                toUInt32(intDiv(number, {self.plan.days}))
            FROM numbers({-(-rest // 5)})"""

    def events(self) -> str:
        """The events of the slice.

        The columns that the table would read out of the JSON are given: that takes a third of the time.
        """
        arrived = "(NOT old AND day = first_day)"
        of_session = {
            "session_hash": self._hash("session", "i", "day", "extra"),
            "started": f"{self._start} + toIntervalSecond(day * 86400 + {self._second_of('day')})",
            "started_ms": "toInt64(toUnixTimestamp(started)) * 1000",
            "gap": f"6 + {self._hash('gap', 'i', 'day')} % 44",
            "known_from": f"multiIf(NOT old AND depth < 3, 255, {arrived}, indexOf(codes, {CODES['identify']}), 1)",
            "session_id": f"toString({_uuid7('started_ms', 'session_hash')})",
            "window_id": f"toString({_uuid7('started_ms', 'cityHash64(session_hash, 1)')})",
            "referrer": f"if({arrived}, {_map(_REFERRERS, 'source', '$direct')}, '$direct')",
            "campaign": f"if({arrived}, utm_source, '')",
            "group_0": "if(depth >= 3, company_key, '')",
            "common": _common_properties(),
        }
        of_event = {
            "event_hash": "cityHash64(session_hash, k)",
            "ms": "started_ms + toInt64(k * gap) * 1000 + toInt64(event_hash % (gap * 700))",
            "known": "k >= known_from",
            "path": f"{array([action.path for action in ACTIONS])}[code]",
            "url": f"concat('https://{HOST}', path)",
        }
        stored = _event_columns()
        values = ", ".join(f"{sql} AS given_{number}" for number, sql in enumerate(stored.values()))
        return f"""INSERT INTO {DATABASE}.events ({", ".join(quote_name(name) for name in stored)})
            SETTINGS insert_allow_materialized_columns = 1
            SELECT {values} FROM (
                SELECT *, code, {_named(of_event)} FROM (
                    SELECT *, {_named(of_session)} FROM (
                        SELECT s.i AS i, s.day AS day, s.codes AS codes, s.extra AS extra, p.* EXCEPT i
                        FROM {WORK}.sessions AS s INNER JOIN {WORK}.people AS p ON s.i = p.i
                    )
                ) ARRAY JOIN codes AS code, arrayEnumerate(codes) AS k
            )"""

    def other_tables(self) -> list[str]:
        """Persons, distinct_ids and companies' members; a person without an event in the period is left out."""
        present = f"{WORK}.people WHERE i IN (SELECT i FROM {WORK}.sessions)"
        return [
            f"""INSERT INTO {DATABASE}.persons (id, created_at, properties, is_identified, version)
            SELECT person_id, first_seen, if(depth >= 3, known_properties, anonymous_properties), depth >= 3, 1
            FROM {present}""",
            f"""INSERT INTO {DATABASE}.person_distinct_ids (distinct_id, person_id, version)
            SELECT arrayJoin(multiIf(
                old, [user_id], depth >= 3, [anonymous_id, user_id], [anonymous_id])), person_id, 1
            FROM {present}""",
            f"""INSERT INTO {WORK}.companies SELECT company, company_key, first_seen, depth
            FROM {present} AND company > 0 AND depth >= 3""",
        ]

    def companies(self) -> str:
        """The table of the companies' members."""
        columns = "company UInt32, company_key String, first_seen DateTime('UTC'), depth UInt8"
        return f"CREATE TABLE {WORK}.companies ({columns}) ENGINE = Memory"

    def groups(self) -> str:
        """The companies, when all their members are known."""
        first, second = _COMPANY_NAMES
        company = {
            "name": _text(f"concat({_pick(first, 'company')}, ' ', {_pick(second, 'intDiv(company, 10)')})"),
            "industry": _text(_pick(_INDUSTRIES, self._hash("industry", "company"))),
            "employees": f"toString(5 + {self._hash('employees', 'company')} % 900)",
            "plan": _text("if(max(depth) >= 5, 'team', 'free')"),
        }
        return f"""INSERT INTO {DATABASE}.groups (`index`, `key`, created_at, updated_at, properties, version)
            SELECT 0, company_key, min(first_seen), max(first_seen), concat('{{', {_pairs(company)}, '}}'), 1
            FROM {WORK}.companies GROUP BY company, company_key"""

    def _hash(self, key: str, *numbers: str) -> str:
        """A number out of the seed, a purpose and, unless others are named, the person."""
        return f"cityHash64({', '.join([f'toUInt64({self.plan.seed})', *(numbers or ('i',)), literal(key)])})"

    def _unit(self, key: str, *numbers: str) -> str:
        return f"({self._hash(key, *numbers)} / {_2_64})"

    def _arrival_day(self) -> str:
        """More arrive towards the end: the density grows from 0 to 1.25 times the average."""
        arrival = self._unit("arrival")
        return f"floor({self.plan.days} * (0.6 * {arrival} + 0.4 * sqrt({arrival})))"

    def _second_of(self, day: str) -> str:
        """When on a day a session begins, in seconds after midnight; early enough to end on the same day."""
        number = self._hash("hour", "i", day)
        hour = f"if(company > 0, {_pick(_WORKING_HOURS, number)}, {_pick(_LEISURE_HOURS, number)})"
        return f"({hour} * 3600 + {self._hash('second', 'i', day)} % 3600)"

    def _first_seen(self) -> str:
        day = f"if(old, -1 - toInt64({self._hash('age')} % 400), toInt64(first_day))"
        return f"{self._start} + toIntervalSecond({day} * 86400 + {self._second_of('first_day')})"

    def _depth(self) -> str:
        """How many steps of the funnel a person reaches; the third depends on the experiment's variant."""
        signs_up = "if(variant = 'test', 0.56, 0.36)"
        return f"""multiIf(
            old, if({self._unit("paying")} < 0.4, 5, 4),
            {self._unit("depth 2")} >= 0.64, 1,
            {self._unit("depth 3")} >= {signs_up}, 2,
            {self._unit("depth 4")} >= 0.72, 3,
            {self._unit("depth 5")} >= 0.34 OR upgrade_day >= {self.plan.days}, 4,
            5)"""

    def _some(self, key: str, most: int, names: Sequence[str], least: int = 0) -> str:
        count = f"{least} + {self._hash(key, 'i', 'day')} % {most - least + 1}"
        which = _pick([CODES[name] for name in names], self._hash(f"{key} which", "i", "day", "k"))
        return f"arrayMap(k -> {which}, range({count}))"

    def _done(self) -> str:
        """What is done in a session: the first visit, another one before signing up, the upgrade, or work."""
        looked = self._some("look", 3, ("pricing", "features", "help", "click pricing"))
        tried = self._some("try", 3, ("files", "shared", "help", "click upload"))
        tasks = ("upload", "upload", "download", "download", "download", "delete", "files", "shared", "share")
        worked = self._some("work", 9, (*tasks, "click upload"))
        team_worked = self._some("team work", 12, (*tasks, "click upload", "invite"))
        return f"""CAST(multiIf(
            NOT old AND day = first_day, arrayConcat(
                {_codes("home")}, {looked},
                if(depth >= 2, {_codes("signup", "flag")}, []),
                if(depth >= 3, {_codes("identify", "sign up")}, []),
                if(depth >= 3 AND company > 0, {_codes("join company")}, []),
                if(depth >= 3, {_codes("files")}, []),
                if(depth >= 4, {self._some("first uploads", 3, ("upload",), 1)}, []),
                if(depth >= 3, {_codes("leave files")}, {_codes("leave site")})),
            NOT old AND depth < 3, arrayConcat(
                {_codes("home")}, {looked},
                if(depth = 2 AND {self._hash("again", "i", "day")} % 2 = 0, {_codes("signup")}, []),
                {_codes("leave site")}),
            NOT old AND depth = 5 AND day = upgrade_day,
                {_codes("login", "log in", "files", "upload", "billing", "upgrade", "pay", "leave files")},
            arrayConcat(
                {_codes("login", "log in", "files")},
                multiIf(depth = 3, {tried}, company > 0, {team_worked}, {worked}),
                if(depth = 5 AND (old OR day > upgrade_day) AND {self._hash("pay", "i", "day")} % 6 = 0,
                    {_codes("billing", "pay")}, []),
                if({self._hash("out", "i", "day")} % 5 = 0, {_codes("log out")}, []),
                {_codes("leave files")})
            ), 'Array(UInt8)')"""


_UTM = {"utm_source": "campaign", "utm_medium": _map(_UTM_MEDIA, "source"), "utm_campaign": "source"}


def _common_properties() -> str:
    """The inside of the JSON that all events of a session share."""
    both = _constant([EXPERIMENT_FLAG, PREVIEW_FLAG])
    pairs = {
        "$session_id": _text("session_id"),
        "$window_id": _text("window_id"),
        "$browser": _text("browser"),
        "$browser_version": "toString(browser_version)",
        "$os": _text("os"),
        "$device_type": _text("device"),
        "$screen_width": "multiIf(device = 'Desktop', '1920', device = 'Mobile', '390', '820')",
        "$host": _constant(HOST),
        "$lib": _constant("web"),
        "$geoip_country_code": _text("country"),
        "$geoip_country_name": _text("country_name"),
        "$referring_domain": _text("referrer"),
        f"$feature/{EXPERIMENT_FLAG}": _text("variant"),
        f"$feature/{PREVIEW_FLAG}": _bool("preview"),
        "$active_feature_flags": f"if(preview, {both}, {_constant([EXPERIMENT_FLAG])})",
    }
    utm = {name: _text(sql) for name, sql in _UTM.items()}
    groups = {"$groups": "concat('{\"company\":\"', group_0, '\"}')", "$group_0": _text("group_0")}
    optional = (_pairs_if("campaign != ''", utm), _pairs_if("group_0 != ''", groups))
    return f"concat({_pairs(pairs)}, {', '.join(optional)})"


def _event_columns() -> dict[str, str]:
    """What is stored of an event, by column."""
    page = {"$current_url": _text("url"), "$pathname": _text("path")}
    materialized = {
        "$browser": "browser",
        "$os": "os",
        "$device_type": "device",
        "$current_url": "url",
        "$pathname": "path",
        "$host": literal(HOST),
        "$referring_domain": "referrer",
        "$geoip_country_code": "country",
        "$lib": "'web'",
        **{name: f"if(campaign != '', {sql}, NULL)" for name, sql in _UTM.items()},
        **dict.fromkeys(("gclid", "fbclid", "gad_source"), "CAST(NULL, 'Nullable(String)')"),
    }
    return {
        "uuid": _uuid7("ms", "event_hash"),
        "event": f"{array([action.event for action in ACTIONS])}[code]",
        "properties": f"concat('{{', common, ',', {_pairs(page)}, {_special_properties()}, '}}')",
        "timestamp": "fromUnixTimestamp64Milli(ms, 'UTC')",
        "distinct_id": "if(known, user_id, anonymous_id)",
        "elements_chain": f"{array([action.elements for action in ACTIONS])}[code]",
        "created_at": "fromUnixTimestamp64Milli(ms + 800, 'UTC')",
        "person_id": "person_id",
        "person_created_at": "first_seen",
        "person_properties": "if(known, known_properties, anonymous_properties)",
        "person_mode": "'full'",
        "$session_id": "session_id",
        "$window_id": "window_id",
        "$group_0": "group_0",
        **{materialized_name(name): sql for name, sql in materialized.items() if name in MATERIALIZED_EVENT_PROPERTIES},
    }


def _special_properties() -> str:
    """The inside of the JSON that only one kind of event has, with a comma before it."""
    number = "bitShiftRight(event_hash, 8)"
    unit = f"(event_hash / {_2_64})"
    method = _choice((("email", 0.55), ("google", 0.33), ("github", 0.12)), unit)
    expiry = f"toDateTime(intDiv(ms, 1000), 'UTC') + toIntervalDay(1 + {number} % 30)"
    price = "toString(if(plan = 'team', 12 * seats, 9))"
    file = {
        "file_type": _text(_pick(_FILE_TYPES, number)),
        "size_mb": f"toString(round(0.1 + 3 * {unit} / (1.02 - {unit}), 2))",
    }
    kinds: dict[tuple[str, ...], dict[str, str]] = {
        _PAGES: {"load_ms": f"toString(180 + {number} % 1400)"},
        ("upload",): {
            **file,
            "encrypted": _bool(f"{number} % 4 = 0"),
            "folder_depth": f"toString({number} % 5)",
        },
        ("download",): {**file, "shared_with_me": _bool(f"{number} % 3 = 0")},
        ("delete",): file,
        ("share",): {
            "recipients": f"toString(1 + {number} % 6)",
            "password_protected": _bool(f"{number} % 5 < 2"),
            "expires_at": _time(expiry),
        },
        ("invite",): {"role": _text(_pick(("viewer", "editor", "admin"), number))},
        ("flag",): {
            "$feature_flag": _constant(EXPERIMENT_FLAG),
            "$feature_flag_response": _text("variant"),
        },
        ("identify",): {"$anon_distinct_id": _text("anonymous_id"), "$set": "known_properties"},
        ("sign up",): {"signup_method": _text(method), "newsletter": _bool(f"{number} % 3 = 0")},
        ("join company",): {"$group_type": _constant("company"), "$group_key": _text("company_key")},
        ("upgrade",): {
            "from_plan": _constant("free"),
            "to_plan": _text("plan"),
            "seats": "toString(seats)",
            "amount_usd": price,
        },
        ("pay",): {"plan": _text("plan"), "amount_usd": price, "is_annual": _constant(False)},
        ("click pricing",): {"$event_type": _constant("click"), "$el_text": _constant("Pricing")},
        ("click upload",): {"$event_type": _constant("click"), "$el_text": _constant("Upload")},
    }
    branches = [f"code IN {_codes(*names)}, concat(',', {_pairs(pairs)})" for names, pairs in kinds.items()]
    return f"multiIf({', '.join(branches)}, '')"
