"""A generator of HogQL, sensible and hostile, and the machine that tries it on the translator and the real engine.

Run it for as long as you like, with either parser::

    python -m tests.property.hogql_fuzz SECONDS [SEED]

What must never happen, whatever is sent: the translator raises anything but `HogQLError`; the engine gets a statement
that is no SQL, or opens a file or a connection, or dies; a canary (a file beside the database, a variable of the
environment) shows up in an answer or an error. Everything else, such as a wrong type, is the user's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from posthog_driver.local import functions, macros
from posthog_driver.local.hogql import HogQLError, translate
from posthog_driver.local.schema import Catalog, Cohort, PropertyDefinition, hogql_name, quote_literal

CANARY = "canary" + "7f3a91"
"""What lies in the file and in the environment; taken apart so that this file is no canary itself."""

QUOTED = "'picked'"
EXAMPLES = Path(__file__).parents[1] / "contract" / "hogql_functions.txt"

CATALOG = Catalog(
    property_definitions=(
        PropertyDefinition("price", "event", "Numeric"),
        PropertyDefinition("ok", "event", "Boolean"),
        PropertyDefinition("when", "event", "DateTime"),
    ),
    event_names=("$pageview",),
    group_types=("account",),
    cohorts=(Cohort(1, "grown up", "properties.age >= 18"), Cohort(2, "picked")),
)

# Errors of the engine that say it was asked for more than reading the embedded tables, or for no SQL at all.
FORBIDDEN = (
    "SYNTAX_ERROR ACCESS_DENIED READONLY CANNOT_OPEN_FILE FILE_DOESNT_EXIST DATABASE_ACCESS_DENIED NETWORK_ERROR "
    "CANNOT_READ_ALL_DATA UNKNOWN_TABLE_FUNCTION UNKNOWN_DATABASE S3_ERROR RECEIVED_ERROR_FROM_REMOTE_IO_SERVER "
    "DNS_ERROR POCO_EXCEPTION STD_EXCEPTION CANNOT_STAT INCORRECT_FILE_NAME UNKNOWN_SETTING LOGICAL_ERROR"
)


class Generator:
    """Random HogQL.

    Args:
        random: Where chance comes from: the same state gives the same text.
        path: The canary's path, for queries that ask for it.
        url: An address on this machine where somebody listens, for queries that ask for it.
    """

    def __init__(self, random: random.Random, path: str, url: str) -> None:
        self._random = random
        self._depth = 0
        self._is_sober = False
        self._scalars, self._aggregations = _examples()
        self._names = ["event", "uuid", "timestamp", "properties", "distinct_id", "person_id", "a", "b", "x", "number"]
        self._functions = sorted({*functions.FUNCTIONS, *macros.MACROS, *functions.COMPARISONS, "matchesAction"})
        self._literals = [
            *(
                "1",
                "0",
                "-1",
                "2.5",
                "1e308",
                "99999999999999999999",
                "0x1f",
                "nan",
                "inf",
                "null",
                "true",
                "'a'",
                "''",
            ),
            *(
                "'2024-01-15'",
                "'2024-01-15 10:00:00'",
                "'%'",
                "'\\\\'",
                "''''",
                "[1, 2]",
                "['a']",
                "[]",
                "(1, 2)",
                "'UTC'",
            ),
            quote_literal(path),
            quote_literal(url),
            quote_literal("x' OR 1=1 --"),
            quote_literal('\N{SNOWMAN}\u2028\0\n`"%s {x}'),
        ]
        self._hostile = [
            *("file", "url", "s3", "remote", "mysql", "sqlite", "executable", "Python", "system", "information_schema"),
            *("settings max_threads = 1", "format JSON", "into outfile", "; drop table events", "insert into", "final"),
            *("union all", "/*", "*/", "--", "#", "//", "{", "}", "{x}", "(", ")", "[", "]", "'", '"', "`", "\\", "\0"),
            *(
                "$$",
                "\u2028",
                "\N{SNOWMAN}",
                "%",
                "?",
                ":",
                "::",
                "->",
                "=>",
                "@x",
                "e'x'",
                "f'",
                "<a href='x'>",
                "</a>",
            ),
            *("with", "recursive", "values", "pivot", "lateral", "sample", "offset", "qualify", "nulls first", "as"),
            *("t__1", "posthog.events", "`posthog`.`events`", "posthog_2", "dictGet", "getSetting('x')", "hostName()"),
            *("ignore nulls", "with totals", "collate 'x'", "9" * 400, "x" * 200, "((((", "not not", "- -", "~"),
            f"file({quote_literal(path)}, 'LineAsString')",
            f"url({quote_literal(url)}, 'LineAsString')",
            f"s3({quote_literal(url)})",
            f"remote('{url.split('/')[2]}', system.one)",
            f"`{path}`",
            f"file({quote_literal(path)})",
            f"executable('cat {path}', TSV, 'x String')",
            "system.tables",
            "system.settings",
            "information_schema.tables",
            "getenv('CANARY')",
        ]

    def query(self) -> str:
        """A query, most of the time a valid one, sometimes spoilt."""
        self._is_sober = self._maybe(0.6)
        text = self._sober_select() if self._is_sober else self._select_or_set()
        chance = self._random.random()
        if chance < (0.75 if self._is_sober else 0.4):
            return text
        return self._spoilt(text) if chance < 0.9 else " ".join(self._words())

    def values(self) -> dict[str, Any]:
        """Values for the placeholders, sometimes hostile."""
        some = [1, None, "a", "it's", [1, 2], ["x'"], 2.5, True, {"a": 1}, "\0`\\", 10**400, CANARY]
        return {name: self._pick(some) for name in ("x", "y") if self._maybe(0.9)}

    # ---------------------------------------------------------------------------------------------------- chance

    def _maybe(self, likelihood: float) -> bool:
        return self._random.random() < likelihood

    def _pick(self, items: Any) -> Any:
        return items[self._random.randrange(len(items))]

    def _some(self, make: Any, most: int = 3, least: int = 1) -> str:
        return ", ".join(make() for _ in range(self._random.randint(least, most)))

    def _words(self) -> list[str]:
        return [self._pick(self._pick([self._hostile, self._literals, self._names])) for _ in range(12)]

    def _spoilt(self, text: str) -> str:
        words = text.split(" ")
        for _ in range(self._random.randint(1, 3)):
            place = self._random.randrange(len(words))
            what = self._random.randrange(5)
            if what == 0:
                words[place] = self._pick(self._hostile)
            elif what == 1:
                words.insert(place, self._pick(self._hostile))
            elif what == 2 and len(words) > 1:
                del words[place]
            elif what == 3:
                other = self._random.randrange(len(words))
                words[place], words[other] = words[other], words[place]
            elif words[place]:
                letters = list(words[place])
                letters[self._random.randrange(len(letters))] = self._pick("'\"`\\%\0(){}[];-/*#\N{SNOWMAN}9")
                words[place] = "".join(letters)
        return " ".join(words)

    # --------------------------------------------------------------------------------------------------- queries

    def _select_or_set(self) -> str:
        if self._maybe(0.85) or self._depth > 1:
            return self._select()
        operators = ["union all", "union distinct", "intersect", "except", "except all", "union all by name"]
        text = f"{self._select(simple=True)} {self._pick(operators)} {self._select(simple=True)}"
        return text + (" limit 3" if self._maybe(0.3) else "")

    def _select(self, *, simple: bool = False) -> str:
        self._depth += 1
        try:
            return self._clauses(simple=simple)
        finally:
            self._depth -= 1

    def _clauses(self, *, simple: bool) -> str:
        parts: list[str] = []
        if self._maybe(0.15) and self._depth == 1:
            columns = "(a, b)" if self._maybe(0.3) else ""
            parts.append(f"with{' recursive' * self._maybe(0.05)} c{columns} as ({self._select(simple=True)})")
        listed = self._some(self._column, 4)
        parts.append(f"select {'distinct ' if self._maybe(0.1) else ''}{listed}")
        if self._maybe(0.85):
            parts.append(f"from {self._from()}")
        if not simple:
            if self._maybe(0.08):
                parts.append(f"{self._pick(['', 'left '])}array join {self._expression()} as j")
            parts += [f"prewhere {self._expression()}"] if self._maybe(0.05) else []
        parts += [f"where {self._expression()}"] if self._maybe(0.5) else []
        if self._maybe(0.3):
            groups = self._some(self._expression, 2)
            parts.append(f"group by {self._pick([groups, groups, 'all', f'rollup({groups})', f'cube({groups})', '1'])}")
            parts += [f"having {self._expression()}"] if self._maybe(0.3) else []
            parts += ["with totals"] if self._maybe(0.05) else []
        if not simple:
            parts += [f"window w as ({self._window()})"] if self._maybe(0.1) else []
            parts += [f"order by {self._some(self._order)}"] if self._maybe(0.4) else []
            parts += [f"limit {self._pick([1, 2])} by {self._expression()}"] if self._maybe(0.1) else []
            limits = [
                "limit 5",
                "limit 10 %",
                "limit 3 with ties",
                "limit 1, 2",
                "limit -1",
                "limit 1 + 1",
                "limit {x}",
            ]
            parts += [self._pick(limits)] if self._maybe(0.3) else []
        return " ".join(parts)

    def _column(self) -> str:
        stars = [
            "*",
            "events.*",
            "* exclude (event)",
            "e.* exclude (uuid)",
            "columns('e.*')",
            "(* replace (1 as event))",
        ]
        if self._maybe(0.12):
            return str(self._pick(stars))
        text = self._expression()
        return f"{text} as {self._name()}" if self._maybe(0.4) else text

    def _name(self) -> str:
        odd = ["we ird", "a`b", "a'b", "a\\b", "\N{SNOWMAN}", "t__1", "select", "a.b", "x\n", "true", "%"]
        return hogql_name(self._pick(odd)) if self._maybe(0.15) else str(self._pick(self._names))

    def _from(self) -> str:
        text = self._table()
        for _ in range(self._random.choice([0, 0, 0, 1, 2])):
            kinds = [
                "join",
                "left join",
                "any left join",
                "asof join",
                "semi join",
                "anti left join",
                "full join",
                "cross join",
            ]
            kind = self._pick(kinds)
            on = (
                ""
                if kind == "cross join"
                else self._pick([f" on {self._expression()}", " using (uuid)", " on e.uuid = f.uuid"])
            )
            text += f" {kind} {self._table()} {self._pick(['e', 'f', 'g'])}{on}"
        return text

    def _table(self) -> str:
        if self._maybe(0.2) and self._depth < 3:
            alias = self._pick(["", " as s", " as s(a, b)", " as s(a)"])
            return f"({self._select(simple=True)}){alias}"
        tables = [
            *(
                "events",
                "events",
                "events",
                "persons",
                "sessions",
                "groups",
                "person_distinct_ids",
                "cohort_people",
                "c",
            ),
            *("numbers(3)", "numbers(2, 5)", "events as e", "events as e(a, b)", "events sample 0.5", "events final"),
            *(
                "system.information_schema.tables",
                "system.feature_flags",
                "system.insights",
                "raw_sessions",
                "range(3)",
            ),
        ]
        return str(self._pick(self._hostile if self._maybe(0.05) else tables))

    def _order(self) -> str:
        end = self._pick(
            ["", " asc", " desc", " desc nulls last", " nulls first", " with fill", " with fill from 0 to 3 step 1"]
        )
        return f"{self._expression()}{end}"

    def _window(self) -> str:
        parts = [f"partition by {self._expression()}"] if self._maybe(0.5) else []
        parts += [f"order by {self._expression()}"] if self._maybe(0.7) else []
        parts += ["rows between 1 preceding and current row"] if self._maybe(0.3) else []
        return " ".join(parts)

    # ------------------------------------------------------------------------------------------ queries that make sense

    def _sober_select(self) -> str:
        """A query that most likely runs: known names, and calls with arguments that the function takes."""
        grouped = self._maybe(0.4)
        keys = [self._sober(1) for _ in range(self._random.randint(0, 2))] if grouped else []
        columns = keys + [self._sober(2, aggregate=grouped) for _ in range(self._random.randint(1, 3))]
        tables = ["events as e", "events as e", "events as e sample 1/2", f"({self._sober_source()}) as e"]
        text = f"select {', '.join(f'{column} as c{i}' for i, column in enumerate(columns))} from {self._pick(tables)}"
        joins = [" left join events as f on e.uuid = f.uuid", " any left join persons as f on e.person_id = f.id"]
        text += self._pick(joins) if self._maybe(0.15) else ""
        text += f" where {self._condition()}" if self._maybe(0.5) else ""
        if keys:
            text += f" group by {', '.join(f'c{i}' for i in range(len(keys)))}"
            text += f" having {self._condition(aggregate=True)}" if self._maybe(0.2) else ""
        text += f" order by c{len(columns) - 1}{self._pick(['', ' desc', ' nulls first'])}" if self._maybe(0.5) else ""
        return text + self._pick(["", " limit 3", " limit 50 %", " limit 1 by c0 limit 2"])

    def _sober_source(self) -> str:
        names = "uuid, event, timestamp, properties, distinct_id, person_id, $session_id, elements_chain_texts"
        return f"select {names} from events where {self._condition()}"

    def _condition(self, *, aggregate: bool = False) -> str:
        left, right = self._sober(1, aggregate=aggregate), self._pick(["null", "'a'", "'$pageview'", "'1'"])
        plain = f"toString({left}) {self._pick(['=', '!=', 'like', '=~', 'not ilike', 'is distinct from'])} {right}"
        if aggregate:
            return plain
        others = [
            "e.person_id in cohort 1",
            "e.uuid in (select uuid from events)",
            "e.timestamp > now() - interval 3 year",
        ]
        return str(self._pick([plain, plain, *others]))

    def _sober(self, depth: int, *, aggregate: bool = False) -> str:
        """An expression over the table ``e``."""
        if aggregate:
            return str(self._pick(self._aggregations))
        fields = [
            *("e.event", "e.properties.$browser", "e.properties.price", "e.properties.list[1]", "e.timestamp", "1.5"),
            *("e.distinct_id", "e.properties.a.b", "e.uuid", "e.elements_chain_texts", "'a b'", "e.$session_id"),
        ]
        if depth == 0 or self._maybe(0.25):
            return str(self._pick(fields))
        inner = self._sober(depth - 1)
        makers = [
            self._pick(self._scalars),
            self._pick(self._scalars),
            f"coalesce(toString({inner}), '')",
            f"toFloat({inner})",
            f"if(isNull({inner}), 'none', toString({inner}))",
            f"(toFloat({inner}) {self._pick('+-*/%')} 2)",
            f"concat({inner}, 'x', {self._sober(depth - 1)})",
            f"arrayMap(x -> concat(x, toString({inner})), ['a', 'b'])",
            f"(select max(timestamp) from events where toString(event) != '{depth}')",
            f"case when {inner} = {self._sober(depth - 1)} then 1 else null end",
        ]
        return str(self._pick(makers))

    # ----------------------------------------------------------------------------------------------- expressions

    def _expression(self) -> str:
        self._depth += 1
        try:
            if self._depth > 5 or self._maybe(0.3):
                return self._leaf()
            return str(self._pick([self._call, self._call, self._operator, self._operator, self._other])())
        finally:
            self._depth -= 1

    def _leaf(self) -> str:
        if self._maybe(0.4):
            return str(self._pick(self._literals))
        fields = [
            *(
                "properties.$browser",
                "properties.price",
                "properties['a b']",
                "properties.a.b[1]",
                "person.properties.age",
            ),
            *(
                "session.$session_duration",
                "group_0.properties.name",
                "account.key",
                "e.event",
                "person.id",
                "$session_id",
            ),
            *("{x}", "{y.z}", "elements_chain_texts", "properties.ok", "$virt_initial_channel_type", "properties.when"),
        ]
        return str(self._pick([self._name(), self._pick(fields)]))

    def _call(self) -> str:
        name = self._pick(self._functions) if self._maybe(0.95) else self._pick(["getenv", "file", "dictGet", "sleep"])
        function = functions.find(name)
        least, most = (function.min_args, function.max_args) if function else (1, 2)
        count = self._random.randint(least, min(least + 2, 9) if most is None else most)
        arguments = [
            self._lambda() if self._maybe(0.05) else self._expression() for _ in range(count if count < 9 else 2)
        ]
        params = f"({self._pick(['0.5', '2', '1, 2'])})" if function and function.params != (0, 0) else ""
        inner = ("distinct " if self._maybe(0.03) else "") + ", ".join(arguments)
        end = self._pick(["", "", "", " over ()", " over w", f" over ({self._window()})"]) if self._maybe(0.2) else ""
        filtered = f" filter (where {self._expression()})" if self._maybe(0.03) else ""
        return f"{name}{params}({inner}){filtered}{end}"

    def _lambda(self) -> str:
        return f"{self._pick(['x', '(x, y)'])} -> {self._expression()}"

    def _operator(self) -> str:
        words = "+ - * / % = != < <= > >= like ilike not like =~ !~ =~* and or in not in <=> ?? ||".replace(
            "not ", "not_"
        )
        operator = self._pick(words.split()).replace("_", " ")
        right = self._pick([self._expression(), f"({self._expression()}, {self._expression()})"])
        return f"{self._pick(['', '', 'not '])}({self._expression()} {operator} {right})"

    def _other(self) -> str:
        makers = [
            lambda: f"({self._select(simple=True)})" if self._depth < 4 else "1",
            lambda: f"{self._leaf()} in (select {self._leaf()} from events)",
            lambda: (
                f"cast({self._expression()} as {self._pick(['int', 'float', 'string', 'date', 'bool', 'File', 'x'])})"
            ),
            lambda: f"({self._expression()})::{self._pick(['int', 'datetime', 'text'])}",
            lambda: f"case when {self._expression()} then {self._expression()} else {self._expression()} end",
            lambda: f"case {self._leaf()} when {self._leaf()} then {self._leaf()} end",
            lambda: f"({self._expression()} ? {self._expression()} : {self._expression()})",
            lambda: f"{self._leaf()} {self._pick(['', 'not '])}between {self._leaf()} and {self._leaf()}",
            lambda: f"{self._leaf()} is {self._pick(['null', 'not null', 'distinct from 1', 'not distinct from x'])}",
            lambda: f"person_id {self._pick(['', 'not '])}in cohort {self._pick(['1', '2', QUOTED, '9'])}",
            lambda: (
                f"interval {self._pick(['1', 'x', chr(39) + '1 day' + chr(39)])} {self._pick(['day', 'hour', 'eon'])}"
            ),
            lambda: f"f'a{{{self._leaf()}}}b'",
            lambda: f"[{self._some(self._leaf)}][{self._leaf()}]",
            lambda: f"{{'a': {self._leaf()}}}",
            lambda: f"<a href={{{self._leaf()}}}>{{{self._leaf()}}}</a>",
            lambda: f"({self._expression()}).{self._pick(['1', '0', 'x'])}",
            lambda: f"-{self._leaf()}",
        ]
        return str(self._pick(makers)())


def _examples() -> tuple[list[str], list[str]]:
    """Calls that the engine runs, of functions and of aggregations."""
    scalars: list[str] = []
    aggregations: list[str] = []
    call = ""
    for line in EXAMPLES.read_text(encoding="utf-8").splitlines():
        if line.startswith("f"):
            call = line[1:].replace("number", "1")
            continue
        for name in line.split() if line.startswith(" ") else ():
            function = functions.find(name)
            if function and name != "throwIf" and not call.endswith("over ()"):
                (aggregations if function.aggregate else scalars).append(name + call)
    return scalars, aggregations


class Trial:
    """The translator and an engine of its own, with canaries about."""

    forbidden = frozenset(FORBIDDEN.split())

    def __enter__(self) -> Trial:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.path = str(folder / "canary.txt")
        Path(self.path).write_text(CANARY + "\n", encoding="utf-8")
        self._socket = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/canary.txt"
        self.kinds: Counter[str] = Counter()
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._stack.close()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "CANARY": CANARY, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def _stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def generator(self, seed: int) -> Generator:
        """A generator that knows where the canaries are."""
        return Generator(random.Random(seed), self.path, self.url)

    def finding(self, seed: int) -> str | None:
        """What goes wrong with the query of a seed, None if nothing does."""
        generator = self.generator(seed)
        query, values = generator.query(), generator.values()
        problem = self._problem(query, values)
        return None if problem is None else f"{problem}\n  seed {seed}: {query!r}\n  values: {values!r}"

    def _problem(self, query: str, values: dict[str, Any]) -> str | None:
        try:
            translation = translate(query, CATALOG, values=values)
        except HogQLError as error:
            self.kinds["refused by the translator"] += 1
            return "the canary is in a refusal" if CANARY in error.message and CANARY not in str(values) else None
        except Exception as error:  # whatever it is, it is a finding
            return f"the translator raised {type(error).__name__}: {error}"
        answer = self.answer(translation.sql)
        if answer is None:
            self._start()
            return f"the engine died of {translation.sql!r}"
        is_shown = CANARY in str(values) or CANARY in translation.sql
        if CANARY in answer and not is_shown:
            return f"the canary is in the answer to {translation.sql!r}"
        if self._connections():
            return f"the engine opened a connection for {translation.sql!r}"
        kind = answer.split(":")[0] if not answer.startswith("[") else "answered"
        self.kinds[kind] += 1
        if kind in self.forbidden:
            return f"{answer[:300]} in {translation.sql!r}"
        return None

    def answer(self, sql: str) -> str | None:
        """What the engine answers to a statement, None if it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(sql) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            return None
        return str(json.loads(line)) if line else None

    def _connections(self) -> bool:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return False
        connection.close()
        return True


def _serve() -> None:
    """The child: an engine that answers each line, a statement as JSON, with a line."""
    from test_hogql_corpus import _rows

    from posthog_driver.local.engine import Engine, EngineError

    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(directory)
        for table, rows in _rows().items():
            engine.insert(table, rows)
        for line in sys.stdin:
            try:
                result = engine.run(
                    json.loads(line), query_id="fuzz", max_execution_time=2.0, max_memory_bytes=500_000_000
                )
                answer = json.dumps(result.rows)[:100_000]
            except EngineError as error:
                answer = f"{error.name}: {error.message}"
            print(json.dumps(answer), flush=True)
        engine.close()


def _findings(trial: Trial, seconds: float, first: int) -> Iterator[tuple[int, str | None]]:
    end = time.monotonic() + seconds
    seed = first
    while time.monotonic() < end:
        yield seed, trial.finding(seed)
        seed += 1


def main() -> None:
    """Try queries for some seconds and say what was found."""
    seconds = float(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 10**9
    count, found = 0, 0
    with Trial() as trial:
        for _, finding in _findings(trial, seconds, first):
            count += 1
            if finding:
                found += 1
                print(finding, flush=True)
    print(f"{count} inputs in {seconds:g} s from seed {first}: {found} findings")
    for kind, times in trial.kinds.most_common():
        print(f"  {times:7} {kind}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--engine"]:
        sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
        _serve()
    else:
        main()
