"""Bodies of every shape become errors that say what was asked, what came back, what it means and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from posthog_driver import exceptions as errors
from posthog_driver._answers import error_from_answer, find_metadata, server_words
from posthog_driver._models import ApiRequest, ApiResponse

QUERY = ApiRequest("POST", "/api/projects/1/query/", {}, scope="query", query_id="q-1")
READ = ApiRequest("GET", "/api/projects/1/cohorts/")
CAPTURE = ApiRequest("POST", "/batch/", scope="ingest")


def answer(status: int, data: Any = None, text: str | None = None, **headers: str) -> ApiResponse:
    return ApiResponse(status, headers, data, text, 1.25)


def error(status: int, data: Any = None, request: ApiRequest = QUERY, **rest: Any) -> errors.PostHogError:
    return error_from_answer(request, answer(status, data, **rest), "attempt 1 of 3")


def refused(detail: str, *found: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """PostHog's body of a query that it refuses."""
    known = {"isValid": False, "errors": list(found), "warnings": [], "notices": [], **metadata}
    named = {"type": "validation_error", "code": "illegal_type_of_argument", "detail": detail, "attr": None}
    return {**named, "extra": {"hogql_metadata": known}}


class TestError:
    def test_a_bound_date_that_is_compared_as_text_gets_the_way_to_write_it(self) -> None:
        made = error(400, refused("Cannot convert string '2026-01-01T00:00:00+00:00' to type DateTime64(6)"))
        assert "write toDateTime({name})" in str(made)

    def test_a_validation_error_names_the_field_it_is_about(self) -> None:
        body = {"type": "validation_error", "code": "invalid", "detail": "Not a valid string.", "attr": "description"}
        assert "\"Not a valid string.\" (about 'description')" in str(error(400, body, READ))

    def test_a_refused_query_says_everything_that_helps(self) -> None:
        found = {"message": "Unknown column 'evnt'", "start": 7, "end": 11, "fix": "event"}
        made = error(400, refused("Unknown column 'evnt'\nHint: did you mean event?\nTables referenced: events", found))
        assert type(made) is errors.QueryError
        assert str(made).startswith("PostHog answered 400 to POST /api/projects/1/query/ (attempt 1 of 3, 1.2 s): ")
        assert "Unknown column 'evnt'" in str(made)
        assert "correct the request" in str(made)
        assert "PostHog would accept here: event" in str(made)
        assert (made.status, made.code, made.query_id) == (400, "illegal_type_of_argument", "q-1")
        assert (made.position, made.end, made.fix) == (7, 11, "event")
        assert made.hint == "did you mean event?"
        assert made.detail == "Unknown column 'evnt'\nHint: did you mean event?\nTables referenced: events"

    @pytest.mark.parametrize(
        ("status", "request_", "kind", "remedy"),
        [
            (400, READ, errors.QueryError, "correct the request"),
            (401, QUERY, errors.AuthenticationError, "POSTHOG_PERSONAL_API_KEY"),
            (401, CAPTURE, errors.AuthenticationError, "POSTHOG_PROJECT_API_KEY"),
            (402, QUERY, errors.QuotaError, "quota"),
            (403, QUERY, errors.AuthorizationError, "scope"),
            (403, CAPTURE, errors.AuthorizationError, "POSTHOG_PROJECT_API_KEY"),
            (404, READ, errors.ObjectNotFoundError, "POSTHOG_PROJECT_ID"),
            (404, CAPTURE, errors.ObjectNotFoundError, "capture_url"),
            (408, CAPTURE, errors.TimeoutError, "in time"),
            (409, READ, errors.QueryError, "correct the request"),
            (413, CAPTURE, errors.QueryError, "send less"),
            (429, QUERY, errors.RateLimitError, "wait"),
            (500, QUERY, errors.ServerError, "in trouble"),
            (503, CAPTURE, errors.ServerError, "in trouble"),
            (504, READ, errors.ServerError, "in trouble"),
            (504, QUERY, errors.QueryTimeoutError, "narrow the time range"),
            (512, QUERY, errors.QueryTooHeavyError, "filter more"),
            (513, QUERY, errors.QueryTooHeavyError, "memory"),
            (304, READ, errors.ResponseFormatError, "redirects to nowhere"),
            (999, READ, errors.ResponseFormatError, "no answer of PostHog's API"),
        ],
    )
    def test_a_status_has_its_class_and_its_remedy(
        self, status: int, request_: ApiRequest, kind: type[errors.PostHogError], remedy: str
    ) -> None:
        made = error(status, request=request_)
        assert type(made) is kind
        assert "without a word" in str(made)
        assert remedy in str(made)
        assert (made.status, made.detail, made.code, made.hint, made.position) == (status, None, None, None, None)

    @pytest.mark.parametrize("personal", [401, 403, 404])
    def test_trouble_with_the_project_token_sends_nobody_to_the_personal_key(self, personal: int) -> None:
        assert "PERSONAL" not in str(error(personal, request=CAPTURE))

    def test_a_redirect_names_its_target_and_why_it_is_not_followed(self) -> None:
        made = error(302, request=READ, Location="https://other.example/" + "x" * 5_000)
        assert "redirects to https://other.example/xxx" in str(made)
        assert "not followed" in str(made)
        assert len(str(made)) < 3_000

    def test_what_the_header_said_is_a_fact(self) -> None:
        made = error_from_answer(QUERY, answer(429, {"code": "throttled"}), "attempt 1 of 3", retry_after=7.0)
        assert (made.retry_after, made.code) == (7.0, "throttled")

    def test_a_missing_scope_is_a_fact(self) -> None:
        made = error(403, {"detail": "API key missing required scope 'query:read'", "code": "permission_denied"})
        assert made.scope == "query:read"
        assert error(403, {"detail": "Not for you"}).scope is None

    @pytest.mark.parametrize(
        ("status", "words"), [(400, "Query exceeded memory"), (500, None)], ids=["safe message", "no message"]
    )
    def test_the_poll_of_a_failed_query_is_the_querys_fault_and_not_the_servers(
        self, status: int, words: str | None
    ) -> None:
        made = error(status, {"query_status": {"id": "q", "complete": True, "error": True, "error_message": words}})
        assert type(made) is errors.QueryError
        assert made.detail == words
        assert "change it" in str(made)
        assert "in trouble" not in str(made)

    def test_a_poll_that_fails_without_a_failed_query_is_the_servers_fault(self) -> None:
        assert type(error(500, {"query_status": {"error": False}})) is errors.ServerError
        assert type(error(500, {"query_status": {"error": True}}, READ)) is errors.ServerError

    def test_a_fix_for_posthogs_own_assistant_is_no_text_to_accept(self) -> None:
        made = error(400, refused("no", {"message": "x", "fix": "ai_prompt: rewrite it"}))
        assert made.fix is None
        assert "accept" not in str(made)

    def test_facts_of_other_types_are_left_out(self) -> None:
        data = refused("no", {"start": True, "end": "7", "fix": {"a": 1}}, notices=["x"])
        made = error(400, {**data, "code": 5})
        assert (made.position, made.end, made.fix, made.code, made.hint) == (None, None, None, None, None)

    def test_without_a_hint_in_the_words_the_first_notice_is_the_hint(self) -> None:
        assert error(400, refused("no", notices=[{"message": "use a range"}, {"message": "x"}])).hint == "use a range"
        assert error(400, refused("no\n  Hint:  filter \nmore")).hint == "filter"

    def test_a_message_stays_readable_whatever_came(self) -> None:
        found = {"message": "x", "fix": "y" * 10_000}
        made = error(400, refused("z" * 100_000, found))
        assert len(str(made)) < 5_000
        assert "98,000 more characters not shown" in str(made)
        assert made.fix == "y" * 10_000

    @pytest.mark.parametrize(
        "data",
        [
            [],
            [1, {"a": 2}],
            {},
            None,
            0,
            False,
            "",
            "text",
            {"detail": None},
            {"detail": ["a", "b"]},
            {"detail": {"field": ["required"]}},
            {"field": ["required"]},
            {"query_status": []},
            {"query_status": None, "detail": 5},
            {"extra": {"hogql_metadata": []}},
            {"extra": {"hogql_metadata": {"errors": None}}},
            {"extra": {"hogql_metadata": {"errors": [None, "x"]}}},
            {"extra": "x"},
            {"detail": "\ud800\0"},
        ],
    )
    @pytest.mark.parametrize("status", [302, 400, 403, 500, 504])
    def test_no_shape_of_a_body_breaks_the_error(self, status: int, data: Any) -> None:
        made = error(status, data)
        assert made.status == status
        assert str(status) in str(made)


class TestServerWords:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"detail": "a", "error": "b"}, "a"),
            ({"detail": None, "query_status": {"error_message": "c"}, "error": "b"}, "c"),
            ({"error": "b", "message": "m"}, "b"),
            ({"message": "m"}, "m"),
            ({"detail": ["é", 1]}, '["é", 1]'),
            ({"email": ["required"]}, '{"email": ["required"]}'),
            ({"query_status": {"error": True}}, None),
            ([], "[]"),
            (0, "0"),
            ("just text", "just text"),
            ("", None),
            ({}, None),
        ],
    )
    def test_json_in_any_of_the_shapes(self, data: Any, words: str | None) -> None:
        assert server_words(data, None) == words

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("event  too\n big ", "event too big"),
            ("<html><head><title lang='en'>\n 502  Bad\nGateway </title></head>x</html>", "(HTML) 502 Bad Gateway"),
            ("\n<!DOCTYPE html><p>Sign\n in</p>", "(HTML) Sign in"),
            ("a < b", "a < b"),
            ("  \n", None),
            ("", None),
            (None, None),
        ],
    )
    def test_what_is_no_json(self, text: str | None, words: str | None) -> None:
        assert server_words(None, text) == words

    def test_long_words_are_cut_and_say_so(self) -> None:
        words = server_words({"detail": "x" * 2_001}, None)
        assert words == "x" * 2_000 + "... (1 more characters not shown)"
        assert server_words({"detail": "x" * 2_000}, None) == "x" * 2_000

    @pytest.mark.parametrize("text", ["<title" * 3, "<html>" + "<" * 3, "<!doctype html>" + "<p" * 3])
    def test_tags_that_never_end_are_text(self, text: str) -> None:
        words = server_words(None, text)
        assert words is not None
        assert re.sub(r"\(HTML\)|\s", "", words) == text.removeprefix("<html>").removeprefix("<!doctype html>")


def test_metadata_is_found_or_empty() -> None:
    whole = {"extra": {"hogql_metadata": {"errors": [{"start": 1}, "x"], "notices": [2]}}}
    assert find_metadata(whole) == {"errors": [{"start": 1}], "notices": [2]}
    assert whole["extra"]["hogql_metadata"]["errors"] == [{"start": 1}, "x"]
    others: list[Any] = [None, [], {}, {"extra": None}, {"extra": {"hogql_metadata": 1}}]
    for other in others:
        assert find_metadata(other) == {}
