"""Asks an embedded PostHog a question over HTTP, as any client does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

from posthog_driver.local import LocalPostHog

__all__ = ["ask", "refusal"]

HANG = 60.0


def _sent(local: LocalPostHog, node: Mapping[str, Any], more: Mapping[str, Any]) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {local.personal_api_key}"
        url = f"{local.url}/api/projects/{local.project_id}/query/"
        return session.post(url, json={"query": dict(node), **more}, timeout=HANG)


def ask(local: LocalPostHog, node: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the answer to a query node."""
    response = _sent(local, node, more)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refusal(local: LocalPostHog, node: Mapping[str, Any]) -> str:
    """Return why a query node is refused."""
    response = _sent(local, node, {})
    assert response.status_code == 400, response.text
    detail: str = response.json()["detail"]
    return detail
