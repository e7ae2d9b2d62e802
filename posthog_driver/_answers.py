"""From an HTTP answer to an error that helps: the server's words, what they mean, what to do.

Pure: the transport hands over text from which secrets are already gone.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from posthog_driver.exceptions import PostHogError, QueryError, class_for_status

if TYPE_CHECKING:
    from posthog_driver._models import ApiRequest, ApiResponse

__all__ = ["error_from_answer", "find_metadata", "server_words", "shorten"]

_MOST_WORDS = 2_000

_REMEDIES = {
    400: "PostHog refused it: correct the request; the same one will fail again.",
    401: "The key is missing, wrong or revoked: check POSTHOG_PERSONAL_API_KEY (phx_..., not the project token) and "
    "that api_url is the key's region.",
    402: "A quota is used up or the plan lacks the feature; nothing helps before the date PostHog names.",
    403: "The key may not do this: give it the scope or the project it lacks, in PostHog's personal API key settings.",
    404: "There is no such project or object for this key: check POSTHOG_PROJECT_ID, the region and the path.",
    408: "PostHog did not receive the request in time.",
    413: "The request is too large: send less at once.",
    429: "Too many requests, or too many queries at once: wait, spread the load, or lower the client's own limits.",
}
_INGEST_REMEDIES = {
    401: "The project token is missing or wrong: check POSTHOG_PROJECT_API_KEY (phc_...) and capture_url's region.",
    403: "The project token may not do this: check POSTHOG_PROJECT_API_KEY (phc_...) and capture_url's region.",
    404: "There is no such endpoint: check capture_url.",
}
_QUERY_REMEDIES = {
    504: "The query ran longer than PostHog allows: narrow the time range, select less, or aggregate more.",
    512: "PostHog estimates that the query would take too long: narrow the time range or filter more.",
    513: "The query needs too much memory: narrow the time range, group by fewer values, or avoid joins.",
}
_FAILED_RUN_REMEDY = "The query failed while it ran, and the same one will likely fail again: change it."
_SERVER_REMEDY = "PostHog is in trouble; this usually passes. See https://status.posthog.com."
_FORMAT_REMEDY = "This is no answer of PostHog's API: check api_url, proxies and sign-in pages in between."


def error_from_answer(
    request: ApiRequest, answer: ApiResponse, tried: str, retry_after: float | None = None
) -> PostHogError:
    """Return the error for an answer that is not the one hoped for.

    Args:
        request: What was asked.
        answer: What came back.
        tried: Which attempt this was, as ``attempt 1 of 3``.
        retry_after: Seconds that the server asks to wait, already read from the header.
    """
    query = request.scope == "query"
    words = server_words(answer.data, answer.text)
    metadata = find_metadata(answer.data)
    trouble = (metadata.get("errors") or [{}])[0]
    fix = _fix(trouble)
    failed_run = query and _is_failed_run(answer.data)
    field = _text(answer.data.get("attr")) if isinstance(answer.data, dict) else None
    said = f': "{words}"' if words else " without a word"
    said += f" (about {shorten(field, 100)!r})" if field else ""
    lines = [
        f"PostHog answered {answer.status} to {request.method} {request.path} ({tried}, {answer.elapsed:.1f} s)"
        + said.replace("\n", "\n    "),
        _FAILED_RUN_REMEDY if failed_run else _remedy(answer, request.scope),
    ]
    if re.search(r"Cannot convert string .* to type Date", words or ""):
        lines.append("A bound date is text to PostHog: write toDateTime({name}) where it is compared.")
    if fix:
        lines.append(f"PostHog would accept here: {shorten(fix, 500)}")
    kind = QueryError if failed_run else class_for_status(answer.status, query=query)
    return kind(
        "\n  ".join(lines),
        status=answer.status,
        detail=words,
        code=_text(answer.data.get("code")) if isinstance(answer.data, dict) else None,
        query_id=request.query_id,
        retry_after=retry_after,
        scope=_missing_scope(words),
        position=_number(trouble.get("start")),
        end=_number(trouble.get("end")),
        fix=fix,
        hint=_hint(words, metadata),
    )


def server_words(data: Any, text: str | None) -> str | None:
    """Return what the server said, from any of the shapes it says it in; None if it said nothing.

    PostHog's REST errors have ``detail``, failed asynchronous queries ``query_status.error_message``, some older
    endpoints ``error`` or ``message`` or a list per field; proxies send HTML and capture sends plain text.
    """
    if isinstance(data, dict):
        status = data.get("query_status")
        candidates = [data.get("detail"), status.get("error_message") if isinstance(status, dict) else None]
        candidates += [data.get("error"), data.get("message")]
        found = next((value for value in candidates if value), None)
        if found is None and data and not isinstance(status, dict):
            found = data
    else:
        found = data if data is not None else _plain(text)
    if found is None or found == "":
        return None
    return shorten(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str))


def find_metadata(data: Any) -> dict[str, Any]:
    """Return ``extra.hogql_metadata`` of an error body (positions and fixes), or an empty dict."""
    extra = data.get("extra") if isinstance(data, dict) else None
    found = extra.get("hogql_metadata") if isinstance(extra, dict) else None
    if not isinstance(found, dict):
        return {}
    errors = found.get("errors")
    found = dict(found)
    found["errors"] = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    return found


def _is_failed_run(data: Any) -> bool:
    """Tell a poll's report that an asynchronous query failed (400 or 500) from trouble of the server itself."""
    status = data.get("query_status") if isinstance(data, dict) else None
    return isinstance(status, dict) and bool(status.get("error"))


def _remedy(answer: ApiResponse, scope: str) -> str:
    own = {"query": _QUERY_REMEDIES, "ingest": _INGEST_REMEDIES}.get(scope, {})
    if found := own.get(answer.status) or _REMEDIES.get(answer.status):
        return found
    if 300 <= answer.status < 400:
        target = shorten(str(answer.headers.get("Location") or "nowhere"))
        return f"It redirects to {target}; redirects are not followed, as they could carry a key away. Check api_url."
    if 400 <= answer.status < 500:
        return _REMEDIES[400]
    return _SERVER_REMEDY if 500 <= answer.status < 600 else _FORMAT_REMEDY


def _plain(text: str | None) -> str | None:
    """Return the readable part of a body that is not JSON: of HTML the title, or the text without tags."""
    if not text:
        return None
    title = re.search(r"<title[^>]{0,300}>([^<]{1,300})", text, re.IGNORECASE)
    if title:
        return f"(HTML) {' '.join(title.group(1).split())}"
    if re.match(r"\s*<(?:!doctype|html|head|body)\b", text, re.IGNORECASE):
        text = "(HTML) " + re.sub(r"<[^>]{0,1000}>", " ", text)
    return " ".join(text.split())


def shorten(text: str, most: int = _MOST_WORDS) -> str:
    """Return the start of a long text with the number of characters that are not shown."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... ({len(text) - most:,} more characters not shown)"


def _missing_scope(words: str | None) -> str | None:
    found = re.search(r"required scope '([\w:*]+)'", words or "")
    return found.group(1) if found else None


def _hint(words: str | None, metadata: dict[str, Any]) -> str | None:
    """Return the line of the detail that starts with ``Hint:``, else the first notice of the metadata."""
    found = re.search(r"^\s*Hint:\s*(.+)$", words or "", re.MULTILINE)
    if found:
        return found.group(1).strip()
    notices = metadata.get("notices")
    first = notices[0] if isinstance(notices, list) and notices else None
    return _text(first.get("message")) if isinstance(first, dict) else None


def _fix(trouble: dict[str, Any]) -> str | None:
    """Return the text that PostHog would accept; what starts with ``ai_prompt:`` is meant for its own assistant."""
    fix = _text(trouble.get("fix"))
    return None if fix is None or fix.startswith("ai_prompt:") else fix


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
