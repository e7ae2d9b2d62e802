"""What users import: complete, sorted, cheap, and quiet."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import posthog_driver

PACKAGE = Path(posthog_driver.__file__).parent
FIXED = {
    "PostHogClient",
    "Client",
    "PostHogConfig",
    "DriverConfig",
    "QueryResult",
    "QueryBuilder",
    "PostHogError",
    "DriverError",
    "__version__",
}
HEAVY = ["dataclasses", "inspect", "asyncio", "uuid", "concurrent.futures", "logging.config", "typing_extensions"]
HEAVY += ["msgspec", "dotenv", "chdb", "pandas", "e2b", "posthog_driver.local", "posthog_driver.cli"]
HEAVY += ["posthog_driver.insights", "posthog_driver.tools"]
VENDORS = ["anthropic", "claude_agent_sdk", "mcp", "langchain_core", "pydantic", "anyio", "e2b"]


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_every_public_name_is_there_and_sorted() -> None:
    assert set(posthog_driver.__all__) >= FIXED
    assert posthog_driver.__all__ == sorted(posthog_driver.__all__)
    for name in posthog_driver.__all__:
        assert getattr(posthog_driver, name) is not None
    assert set(posthog_driver.__all__) <= set(dir(posthog_driver))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        posthog_driver.nonsense  # noqa: B018 - looking it up is the test


def test_aliases_are_the_same_class() -> None:
    assert posthog_driver.Client is posthog_driver.PostHogClient
    assert posthog_driver.DriverConfig is posthog_driver.PostHogConfig
    assert posthog_driver.DriverError is posthog_driver.PostHogError
    assert posthog_driver.NotFoundError is posthog_driver.ObjectNotFoundError
    assert posthog_driver.CircuitBreakerError is posthog_driver.CircuitBreakerOpen


def test_the_version_is_the_one_of_the_release() -> None:
    assert posthog_driver.__version__ == "1.0.0"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_every_name_in_all_exists_in_its_module(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    for names in named:
        module = "posthog_driver" if path.stem == "__init__" else f"posthog_driver.{path.stem}"
        assert [name for name in names if not hasattr(__import__(module, fromlist=["x"]), name)] == []


def test_importing_the_client_loads_nothing_heavy() -> None:
    code = f"""
import sys, requests
before = set(sys.modules)
from posthog_driver import PostHogClient, PostHogConfig
added = set(sys.modules) - before
print([name for name in {HEAVY!r} if name in added])
"""
    assert run(code) == "[]"


def test_importing_the_tools_loads_no_package_of_a_vendor() -> None:
    code = f"""
import sys
from posthog_driver.tools import SYSTEM_PROMPT, TOOLS, Toolkit
print([name for name in {VENDORS!r} if name in sys.modules])
"""
    assert run(code) == "[]"


def test_importing_the_package_alone_does_not_load_requests() -> None:
    assert run("import sys, posthog_driver; print('requests' in sys.modules)") == "False"


def test_importing_leaves_logging_alone() -> None:
    code = """
import logging
from posthog_driver import PostHogClient
import posthog_driver.logging_config
package = logging.getLogger("posthog_driver")
root = logging.getLogger()
print(root.handlers, root.level, [type(h).__name__ for h in package.handlers], package.level)
"""
    assert run(code) == "[] 30 ['NullHandler'] 0"
