"""Imports events from files into a project: NDJSON, CSV (both also gzipped) and Parquet.

Rows go through the same door as captured events, so that persons, groups and definitions come of them as usual. What
each column of a row means is said by `to_event`, which knows PostHog's own exports. A row that has no ``uuid`` gets
one made of its number and content: importing the same file again, whole or after a stop, adds nothing twice. A row
that cannot be an event is not imported, and the `ImportReport` says which and why.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from posthog_driver.exceptions import MissingDependencyError, ValidationError

__all__ = ["FORMATS", "ImportReport", "Progress", "Refusal", "import_events", "to_event"]

FORMATS = ("ndjson", "csv", "parquet")
"""What can be read. The suffix decides: ``.ndjson``, ``.jsonl``, ``.json``, ``.csv``, ``.parquet``, also ``.gz``."""

CHUNK = 2_000
"""Rows in one request."""

MAX_REFUSALS = 100
"""Refused rows that a report shows; all of them are counted."""

MAX_FIELD = 20 * 1024**2
"""Characters in one field of a CSV file; PostHog takes no larger event."""

_SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv", ".parquet": "parquet"}
_NAMESPACE = uuid.UUID("0b2f5a5e-6f0c-4a55-9a0e-6a7d0c1c7f43")
_OBJECTS = ("properties", "set", "set_once", "person_properties", "person")
_OWN = ("event", "distinct_id", "timestamp", "uuid", "id", "ip", "elements_chain", *_OBJECTS)
_FOREIGN = {
    *("team_id", "project_id", "person_id", "person_created_at", "person_mode", "created_at", "elements", "site_url"),
    *("inserted_at", "_inserted_at", "bq_ingested_timestamp"),
}
"""Columns of PostHog's exports that mean something only where they come from."""


class Captures(Protocol):
    """What an import needs of the client."""

    def capture_batch(self, events: Any) -> dict[str, Any]:
        """Send events."""


@dataclass(frozen=True)
class Progress:
    """How far an import is.

    Attributes:
        done: Bytes read (Parquet: rows).
        total: Bytes in all (Parquet: rows).
        events: Events that were accepted so far.
    """

    done: int
    total: int
    events: int


@dataclass(frozen=True)
class Refusal:
    """A row that was not imported.

    Attributes:
        row: Its number; the first row after a CSV file's heading, and the first line of NDJSON, is 1.
        reason: Why.
    """

    row: int
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What became of a file.

    Attributes:
        events: Events that were sent and accepted; those the project had already (by uuid) are among them.
        refused: Rows that were not imported.
        refusals: The first hundred of these, with reasons.
        properties: Columns without a meaning of their own, which became properties.
        left_out: Columns that mean nothing in another project and were left out.
    """

    events: int
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()
    properties: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass
class _Tally:
    events: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)

    def refuse(self, row: int, reason: object) -> None:
        self.refused += 1
        if len(self.refusals) < MAX_REFUSALS:
            self.refusals.append(Refusal(row, str(reason)))

    def report(self) -> ImportReport:
        extra = self.columns - set(_OWN)
        return ImportReport(
            self.events,
            self.refused,
            tuple(self.refusals),
            tuple(sorted(extra - _FOREIGN)),
            tuple(sorted(extra & _FOREIGN)),
        )


@dataclass(frozen=True)
class _Row:
    """One row as read: its fields, or why it has none."""

    number: int
    fields: Mapping[str, Any] | None
    reason: str
    done: int


def import_events(
    client: Captures,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> ImportReport:
    """Send every event of a file to a project.

    Args:
        client: A client of the project; each request is retried as its configuration says.
        path: The file. See `to_event` for what its columns mean.
        format: One of `FORMATS`; None takes it from the file's name.
        on_progress: Called after each request.

    Returns:
        How many events were accepted, and which rows were not imported.

    Raises:
        ValidationError: The file is not there, cannot be read as what it is said to be, or has no column ``event``.
        PostHogError: A request failed for good. What was accepted before it stays; importing the file again goes on.
    """
    kind = format or _format_of(Path(path))
    if kind not in FORMATS:
        raise ValidationError(f"format is one of {', '.join(FORMATS)}, not {kind!r}.")
    tally = _Tally()
    try:
        with _rows(Path(path), kind) as (total, rows):
            while chunk := list(islice(rows, CHUNK)):
                _send(client, chunk, tally)
                if on_progress is not None:
                    on_progress(Progress(chunk[-1].done, total, tally.events))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        where = f" after {tally.events:,} events" if tally.events else ""
        raise ValidationError(f"{Path(path).name} cannot be read as {kind}{where}: {error}") from error
    return tally.report()


def to_event(fields: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return the event that a row stands for.

    ``event``, ``distinct_id``, ``timestamp`` (ISO 8601; without a zone it is UTC) and ``uuid`` (or ``id``) are these;
    ``properties`` is an object or its JSON text, as are ``set`` and ``set_once``, which change the person;
    ``person_properties`` and ``person`` of PostHog's exports are taken as ``set``; ``ip`` and ``elements_chain`` become
    the properties ``$ip`` and ``$elements_chain``. Any other column is a property of its own, unless it only means
    something where it comes from (``team_id``, ``person_id``, ``created_at`` ...). Empty fields are no properties.

    Args:
        fields: The row.
        row: Its number, which goes into the uuid of a row that has none.

    Raises:
        ValueError: It is no event; the text says why.
    """
    name, timestamp = fields.get("event"), fields.get("timestamp")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("it has no event name in the column 'event'")
    if timestamp in (None, ""):
        raise ValueError("it has no time in the column 'timestamp'")
    objects = {key: _object(key, fields.get(key)) for key in _OBJECTS}
    properties = {key: value for key, value in fields.items() if key not in _OWN and key not in _FOREIGN}
    properties.update({"$ip": fields.get("ip"), "$elements_chain": fields.get("elements_chain")})
    properties = {key: _plain(value) for key, value in properties.items() if value not in (None, "")}
    properties.update(objects["properties"])
    changed = {
        **_object("person", objects["person"].get("properties")),
        **objects["person_properties"],
        **objects["set"],
    }
    for key, change in (("$set", changed), ("$set_once", objects["set_once"])):
        if change:
            properties[key] = {**change, **_object(key, properties.get(key))}
    distinct_id = fields.get("distinct_id")
    return {
        "event": name,
        "distinct_id": properties.get("distinct_id") if distinct_id in (None, "") else distinct_id,
        "timestamp": _moment(timestamp),
        "properties": properties,
        "uuid": _uuid(fields, row),
    }


def _send(client: Captures, chunk: list[_Row], tally: _Tally) -> None:
    events: list[tuple[int, dict[str, Any]]] = []
    for row in chunk:
        try:
            if row.fields is None:
                raise ValueError(row.reason)
            tally.columns.update(row.fields)
            events.append((row.number, to_event(row.fields, row.number)))
        except ValueError as error:
            tally.refuse(row.number, error)
    try:
        _accept(client, events, tally)
    except ValidationError:
        # Nothing of the chunk was sent, because of one row or of several: each is tried for itself.
        for number, event in events:
            try:
                _accept(client, [(number, event)], tally)
            except ValidationError as error:
                tally.refuse(number, error)


def _accept(client: Captures, events: list[tuple[int, dict[str, Any]]], tally: _Tally) -> None:
    if events:
        tally.events += client.capture_batch([event for _, event in events])["events"]


# --------------------------------------------------------------------------------------------------------- the values


def _object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"its {name!r} is no JSON: {error}") from None
    if value in (None, "") or (isinstance(value, str) and not value.strip()):
        return {}
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)  # a map of Parquet
    if not isinstance(value, Mapping):
        raise ValueError(f"its {name!r} is no object but {type(value).__name__}")
    return {str(key): _plain(entry) for key, entry in value.items()}


def _plain(value: Any) -> Any:
    """A value as JSON has it: times as text."""
    return value.isoformat() if isinstance(value, (datetime, date)) else value


def _moment(value: Any) -> str:
    if isinstance(value, datetime):
        moment = value
    else:
        text = str(value).strip()
        try:
            # Python 3.10 knows neither Z nor fractions of other lengths than 3 and 6.
            text = re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6.6}", text)
            moment = datetime.fromisoformat(re.sub(r"\s*(?:Z|z|UTC)$", "+00:00", text))
        except ValueError:
            raise ValueError(f"its timestamp {text[:40]!r} is no ISO 8601 time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).isoformat()


def _uuid(fields: Mapping[str, Any], row: int) -> str:
    for key in ("uuid", "id"):
        given = str(fields.get(key) or "")
        if re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", given):
            return str(uuid.UUID(given))
        if given and key == "uuid":
            raise ValueError(f"its uuid {given[:40]!r} is none")
    content = json.dumps(fields, sort_keys=True, default=str)
    return str(uuid.uuid5(_NAMESPACE, f"{row}:{content}"))


# ----------------------------------------------------------------------------------------------------------- the files


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if not suffixes or suffixes[-1] not in _SUFFIXES:
        raise ValidationError(
            f"{path.name} has no suffix that tells what it is ({', '.join(_SUFFIXES)}): give one of the formats "
            f"{', '.join(FORMATS)}."
        )
    return _SUFFIXES[suffixes[-1]]


@contextmanager
def _rows(path: Path, kind: str) -> Iterator[tuple[int, Iterator[_Row]]]:
    """The size of a file and its rows."""
    if kind == "parquet":
        with _parquet(path) as file:
            yield file.metadata.num_rows, _parquet_rows(file)
        return
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        source: IO[bytes] = gzip.GzipFile(fileobj=raw) if is_gzip else raw  # type: ignore[assignment]
        with source:
            rows = _csv_rows(source, raw) if kind == "csv" else _ndjson_rows(source, raw)
            yield path.stat().st_size, rows


def _ndjson_rows(source: IO[bytes], raw: IO[bytes]) -> Iterator[_Row]:
    for number, line in enumerate(source, start=1):
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        fields, reason = None, ""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = f"it is no JSON: {error}"
        if fields is not None and not isinstance(fields, dict):
            hint = ": write one object a line" if isinstance(fields, list) else ""
            fields, reason = None, f"it is no object but {type(fields).__name__}{hint}"
        yield _Row(number, fields, reason or "it is null", raw.tell())


def _csv_rows(source: IO[bytes], raw: IO[bytes]) -> Iterator[_Row]:
    before = csv.field_size_limit(MAX_FIELD)
    text = io.TextIOWrapper(source, "utf-8-sig", newline="")
    try:
        reader = csv.DictReader(text, strict=True)
        if "event" not in (reader.fieldnames or ()):
            raise ValidationError("A CSV file needs a first line with the names of its columns, 'event' among them.")
        for number, fields in enumerate(reader, start=1):
            reason = ""
            if None in fields or None in fields.values():
                reason = f"it has not as many fields as the first line ({len(reader.fieldnames or ())})"
            yield _Row(number, None if reason else _typed(fields), reason, raw.tell())
    finally:
        text.detach()  # the file is whose opened it to close
        csv.field_size_limit(before)


def _typed(fields: Mapping[str, str]) -> dict[str, Any]:
    """Numbers and truth values of the property columns as what they are; ``01234`` and ``1e3`` stay text."""
    return {name: text if name in _OWN else _scalar(text) for name, text in fields.items()}


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d{0,14})\.\d{1,15}", text) else text


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            'Reading Parquet needs pyarrow, which comes with: pip install "posthog-driver[local]"'
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "event" not in file.schema_arrow.names:
                raise ValidationError(f"{path.name} has no column 'event'.")
            yield file
    except pyarrow.ArrowException as error:
        raise ValidationError(f"{path.name} cannot be read as parquet: {error}") from error


def _parquet_rows(file: Any) -> Iterator[_Row]:
    number = 0
    for batch in file.iter_batches(CHUNK):
        for fields in batch.to_pylist():
            number += 1
            yield _Row(number, fields, "", number)
