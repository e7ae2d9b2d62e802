"""Personal API keys: what each may do, and where.

A key's value is shown once, when it is made. What is kept, in memory and on disk, is its SHA-256 digest: the values
are random and long, so nothing slower is needed. Only the two keys of the first project stand in the data directory as
they are, readable by its owner alone: whoever opens the directory again is to find the same ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import errors
from .files import reading, write_json

__all__ = ["ALL", "NOBODY", "SCOPE_OBJECTS", "Key", "KeyRing", "check_scopes", "first_keys"]

ALL = "*"
"""The scope that grants everything."""

_SCOPE_OBJECTS = """
access_control account action activity_log ai_observability_clusters alert annotation approvals batch_export
batch_import billing business_knowledge canvas cohort comment conversation customer_analytics customer_journey
customer_profile_config customer_task dashboard dashboard_template data_catalog data_catalog_approval dataset
early_access_feature element endpoint engineering_analytics error_tracking evaluation event_definition
event_filter experiment experiment_holdout experiment_saved_metric export external_data_schema
external_data_source feature_flag field_note file_system file_system_shortcut group health_issue heatmap
hog_flow hog_function ingestion_warning insight insight_variable integration legal_document link live_debugger
llm_analytics llm_gateway llm_playground llm_prompt llm_provider_key llm_skill logs loop marketing_analytics
mcp_analytics metrics notebook organization organization_integration organization_member person plugin
product_enablement product_tour project property_definition query query_performance replay_scanner
revenue_analytics review_hog session_recording session_recording_playlist sharing_configuration signal_scout
stamphog streamlit_app subscription survey tagger task ticket toolbar tracing uploaded_media usage_metric user
user_interview vision_action vision_alert visual_review warehouse_objects warehouse_table warehouse_view
web_analytics webhook wizard_session
"""
SCOPE_OBJECTS = frozenset(_SCOPE_OBJECTS.split())
"""What a scope can name, before ``:read`` or ``:write`` (posthog/scopes.py)."""


@dataclass(frozen=True)
class Key:
    """A personal API key.

    Attributes:
        id: Its id.
        label: Its name, for people.
        digest: SHA-256 of its value, in hexadecimal.
        mask: Its first and last letters, to know it again.
        scopes: What it may do; ``*`` is everything, ``x:write`` holds ``x:read`` within.
        teams: The projects it may be used for; all of them when empty.
        created_at: When it was made, ISO 8601.
    """

    id: str
    label: str
    digest: str
    mask: str
    scopes: tuple[str, ...] = (ALL,)
    teams: tuple[int, ...] = ()
    created_at: str = ""

    @classmethod
    def of(cls, value: str, label: str, scopes: Sequence[str] = (ALL,), teams: Sequence[int] = ()) -> Key:
        """Make a key of a value."""
        mask = f"{value[:4]}...{value[-4:]}" if len(value) >= 16 else "*" * 8
        now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        return cls(str(uuid.uuid4()), label, _digest(value), mask, tuple(scopes), tuple(teams), now)

    def allows(self, scope: str) -> bool:
        """Tell whether it holds a scope; an empty one is held by every key."""
        object_name, _, action = scope.partition(":")
        return (
            not scope
            or ALL in self.scopes
            or scope in self.scopes
            or (action == "read" and f"{object_name}:write" in self.scopes)
        )

    def reaches(self, team: int) -> bool:
        """Tell whether it may be used for a project."""
        return not self.teams or team in self.teams

    def shown(self, value: str | None = None) -> dict[str, Any]:
        """Return what PostHog answers about it; its value only to whoever has just made it."""
        return {
            "id": self.id,
            "label": self.label,
            "value": value,
            "mask_value": self.mask,
            "created_at": self.created_at,
            "last_used_at": None,
            "last_rolled_at": None,
            "user_id": 1,
            "scopes": list(self.scopes),
            "scoped_teams": list(self.teams),
            "scoped_organizations": [],
        }


NOBODY = Key("nobody", "", "", "", scopes=())
"""Stands for the key of a request that needs none."""


def check_scopes(scopes: Any) -> tuple[str, ...]:
    """Return scopes that were given, checked.

    Raises:
        ValueError: In PostHog's words.
    """
    if isinstance(scopes, str) or not isinstance(scopes, Sequence) or not scopes:
        raise ValueError("scopes must be a list of scopes that is not empty")
    for scope in scopes:
        object_name, _, action = str(scope).partition(":")
        if scope != ALL and (object_name not in SCOPE_OBJECTS or action not in ("read", "write")):
            raise ValueError(f"Invalid scope: {scope}")
    return tuple(scopes)


class KeyRing:
    """Every personal key of the server. Thread-safe.

    Args:
        fixed: The keys that the server was started with; they are in no file.
        path: Where the digests of the other ones are kept, None to keep them in memory.
    """

    def __init__(self, fixed: Iterable[Key], path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._fixed = tuple(fixed)
        self._made: list[Key] = []
        if path is not None and path.exists():
            with reading(path):
                self._made = [_key(stored) for stored in json.loads(path.read_text(encoding="utf-8"))]

    def find(self, value: str) -> Key | None:
        """Return the key of a value, in a time that tells nothing of the others."""
        digest = _digest(value)
        with self._lock:
            keys = [*self._fixed, *self._made]
        matching = [key for key in keys if hmac.compare_digest(key.digest, digest)]
        return matching[0] if matching else None

    def create(self, label: Any, scopes: Any, teams: Any, known_teams: Iterable[int]) -> tuple[Key, str]:
        """Make a key.

        Args:
            label: Its name.
            scopes: What it may do.
            teams: The projects it may be used for, empty for all.
            known_teams: The projects that exist.

        Returns:
            The key and its value, which is nowhere to be had later.

        Raises:
            ApiError: 400 for what cannot be.
        """
        if not isinstance(label, str) or not 0 < len(label) <= 40:
            raise errors.validation("This field must be a text of 1 to 40 characters.", attr="label")
        try:
            scopes = check_scopes(scopes)
        except ValueError as problem:
            raise errors.validation(str(problem), attr="scopes") from None
        known = set(known_teams)
        if not isinstance(teams, list) or not all(type(team) is int and team in known for team in teams):
            detail = "You must be a member of all teams that you are scoping the key to."
            raise errors.validation(detail, attr="scoped_teams")
        value = f"phx_{secrets.token_hex(20)}"
        key = Key.of(value, label, scopes, teams)
        with self._lock:
            self._made.append(key)
            self._save()
        return key, value

    def forget_team(self, team: int) -> None:
        """Remove the keys that are for one project alone: it is gone."""
        with self._lock:
            kept = [key for key in self._made if key.teams != (team,)]
            if len(kept) < len(self._made):
                self._made = kept
                self._save()

    def _save(self) -> None:
        if self._path is not None:
            write_json(self._path, [asdict(key) for key in self._made])


def _key(stored: Mapping[str, Any]) -> Key:
    return Key(**{**stored, "scopes": tuple(stored["scopes"]), "teams": tuple(stored["teams"])})


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def first_keys(directory: Path) -> dict[str, str]:
    """Return the personal key and the token of the first project, made when the directory is opened first.

    Raises:
        DamagedFile: What is in their file are no keys.
    """
    path = directory / "first_keys.json"
    if not path.exists():
        made = {"personal_api_key": f"phx_{secrets.token_hex(20)}", "project_api_key": f"phc_{secrets.token_hex(20)}"}
        write_json(path, made)
        return made
    with reading(path):
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(kept[name]) for name in ("personal_api_key", "project_api_key")}
