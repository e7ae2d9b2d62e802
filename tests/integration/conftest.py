"""The fake of E2B, and what its tests have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.e2b.fake_e2b import FakeE2B


@pytest.fixture
def fake_e2b(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeE2B]]:
    """Make the service of a test; the real package finds it by its variables."""
    from tests.clients.e2b.fake_e2b import FakeE2B

    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> FakeE2B:
            fake = stack.enter_context(FakeE2B(**options))
            for name, value in fake.environment().items():
                monkeypatch.setenv(name, value)
            return fake

        yield make
