"""The error tree: what catches what, which facts travel, and which status means which class."""

from __future__ import annotations

import builtins
import copy
import pickle

import pytest

from posthog_driver import exceptions as errors
from posthog_driver.exceptions import PostHogError, class_for_status

CLASSES = sorted(
    {made for made in vars(errors).values() if isinstance(made, type) and issubclass(made, PostHogError)},
    key=lambda made: made.__name__,
)
FACTS = {
    "status": 400,
    "detail": "no such column",
    "code": "invalid_input",
    "attempts": 2,
    "query_id": "q-1",
    "retry_after": 1.5,
    "scope": "query:read",
    "position": 7,
    "end": 12,
    "hint": "look at persons",
    "fix": "event",
}

PARENTS = [
    (errors.AuthenticationError, PostHogError),
    (errors.AuthorizationError, errors.AuthenticationError),
    (errors.ObjectNotFoundError, PostHogError),
    (errors.ValidationError, PostHogError),
    (errors.ValidationError, ValueError),
    (errors.ConfigurationError, errors.ValidationError),
    (errors.QueryError, PostHogError),
    (errors.QueryTimeoutError, errors.QueryError),
    (errors.QueryTooHeavyError, errors.QueryError),
    (errors.RateLimitError, PostHogError),
    (errors.QuotaError, errors.RateLimitError),
    (errors.ConnectionError, PostHogError),
    (errors.ConnectionError, builtins.ConnectionError),
    (errors.ServerError, errors.ConnectionError),
    (errors.TimeoutError, errors.ConnectionError),
    (errors.TimeoutError, builtins.TimeoutError),
    (errors.CircuitBreakerOpen, PostHogError),
    (errors.ResponseFormatError, PostHogError),
    (errors.MissingDependencyError, PostHogError),
    (errors.MissingDependencyError, ImportError),
]


@pytest.mark.parametrize(("child", "parent"), PARENTS)
def test_an_error_is_caught_as_its_parent(child: type[PostHogError], parent: type[Exception]) -> None:
    with pytest.raises(parent):
        raise child("why")


def test_every_class_is_in_the_table_of_parents() -> None:
    assert {child for child, _ in PARENTS} == set(CLASSES) - {PostHogError}


def test_second_names_are_the_same_classes() -> None:
    assert errors.DriverError is PostHogError
    assert errors.NotFoundError is errors.ObjectNotFoundError
    assert errors.CircuitBreakerError is errors.CircuitBreakerOpen


def test_everything_exported_exists_and_every_error_is_exported() -> None:
    assert {made.__name__ for made in CLASSES} <= set(errors.__all__)
    assert all(hasattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize("kind", CLASSES)
class TestEveryClass:
    def test_the_message_and_the_facts_are_attributes(self, kind: type[PostHogError]) -> None:
        error = kind("why", **FACTS)
        assert str(error) == error.message == "why"
        assert {name: getattr(error, name) for name in FACTS} == FACTS

    def test_facts_that_are_unknown_are_none(self, kind: type[PostHogError]) -> None:
        error = kind("why", status=0, detail=None)
        assert error.status == 0
        assert "detail" not in vars(error)
        assert [getattr(error, name) for name in FACTS if name != "status"] == [None] * (len(FACTS) - 1)
        assert str(kind()) == ""

    def test_a_fact_that_no_error_has_is_a_type_error(self, kind: type[PostHogError]) -> None:
        with pytest.raises(TypeError, match=f"{kind.__name__} has no fact named statuss, wrong"):
            kind("why", wrong=1, statuss=2, status=3)

    def test_it_survives_pickling_and_copying(self, kind: type[PostHogError]) -> None:
        error = kind("why", **FACTS)
        error._never_sent = True  # type: ignore[attr-defined]  # what the transport sets on some
        protocols = [pickle.loads(pickle.dumps(error, number)) for number in range(pickle.HIGHEST_PROTOCOL + 1)]
        for again in (*protocols, copy.copy(error), copy.deepcopy(error)):
            assert type(again) is kind
            assert again.args == ("why",)
            assert vars(again) == {**FACTS, "_never_sent": True}

    def test_a_message_that_is_completed_later_shows_everywhere(self, kind: type[PostHogError]) -> None:
        error = kind("why", status=500)
        error.args = ("why not",)
        again = pickle.loads(pickle.dumps(error))
        assert (again.args, again.status) == (("why not",), 500)


def test_only_connection_errors_know_whether_they_were_sent() -> None:
    assert errors.ConnectionError("why")._never_sent is False
    assert errors.ServerError("why")._ours is False
    assert not hasattr(errors.QueryError("why"), "_never_sent")


@pytest.mark.parametrize(
    ("status", "kind", "from_query"),
    [
        (400, errors.QueryError, errors.QueryError),
        (401, errors.AuthenticationError, errors.AuthenticationError),
        (402, errors.QuotaError, errors.QuotaError),
        (403, errors.AuthorizationError, errors.AuthorizationError),
        (404, errors.ObjectNotFoundError, errors.ObjectNotFoundError),
        (408, errors.TimeoutError, errors.TimeoutError),
        (409, errors.QueryError, errors.QueryError),
        (413, errors.QueryError, errors.QueryError),
        (429, errors.RateLimitError, errors.RateLimitError),
        (499, errors.QueryError, errors.QueryError),
        (500, errors.ServerError, errors.ServerError),
        (503, errors.ServerError, errors.ServerError),
        (504, errors.ServerError, errors.QueryTimeoutError),
        (512, errors.ServerError, errors.QueryTooHeavyError),
        (513, errors.ServerError, errors.QueryTooHeavyError),
        (599, errors.ServerError, errors.ServerError),
        (600, errors.ResponseFormatError, errors.ResponseFormatError),
        (999, errors.ResponseFormatError, errors.ResponseFormatError),
        (304, errors.ResponseFormatError, errors.ResponseFormatError),
        (0, errors.ResponseFormatError, errors.ResponseFormatError),
    ],
)
def test_a_status_has_its_class_and_the_query_endpoint_has_its_own(
    status: int, kind: type[PostHogError], from_query: type[PostHogError]
) -> None:
    assert class_for_status(status) is kind
    assert class_for_status(status, query=True) is from_query
