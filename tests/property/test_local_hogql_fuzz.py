"""Random queries, sensible and hostile, on the translator and the real engine: the embedded tables alone are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.hogql_fuzz import CANARY, Trial


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with Trial() as started:
        yield started


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_no_query_reads_a_file_or_opens_a_connection_or_breaks_anything(trial: Trial, seed: int) -> None:
    assert trial.finding(seed) is None


def test_most_sensible_queries_are_answered_so_that_the_engine_is_really_tried(trial: Trial) -> None:
    for seed in range(60):
        assert trial.finding(seed) is None
    assert trial.kinds["answered"] > 10


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('{path}', 'LineAsString')",
        "SELECT file('{path}')",
        "SELECT * FROM url('{url}', 'LineAsString')",
    ],
)
def test_the_trial_sees_what_it_looks_for(trial: Trial, sql: str) -> None:
    """The engine itself reads the file, or is refused by a name on the list: so silence means something."""
    answer = trial.answer(sql.format(path=trial.path, url=trial.url))
    assert answer is not None
    assert CANARY in answer or answer.split(":")[0] in trial.forbidden
