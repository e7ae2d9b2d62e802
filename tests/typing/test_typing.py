"""The package is typed for its users, not only for itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import posthog_driver

CONSUMER = Path(__file__).with_name("consumer.py")


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(posthog_driver.__file__).with_name("py.typed").exists()


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed; it comes with the extra dev")
def test_a_users_program_has_the_types_that_the_documents_promise() -> None:
    # In the project's folder, so that what `make type` has cached serves here too.
    command = [sys.executable, "-m", "mypy", "--strict", str(CONSUMER)]
    done = subprocess.run(command, cwd=CONSUMER.parents[2], capture_output=True, text=True, timeout=300)
    assert done.stdout == "Success: no issues found in 1 source file\n"
    assert (done.returncode, done.stderr) == (0, "")
