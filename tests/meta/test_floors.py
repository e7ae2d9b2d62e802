"""The architecture, proven: a file imports from lower floors only, and there are no circles."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "posthog_driver"

FLOORS = {
    0: ["exceptions", "_models", "_clock", "_version", "_codec", "_redaction"],
    1: [
        "config",
        "logging_config",
        "retry",
        "circuit_breaker",
        "rate_limiter",
        "query_builder",
        "_answers",
        "_insight_arguments",
        "_placeholders",
        "_session",
        "importing",
    ],
    2: ["transport", "results", "_insight_plans"],
    3: ["endpoints", "paging", "_insight_methods"],
    4: ["schema", "capture", "resources", "insights"],
    5: ["client"],
    6: ["_output", "_doctor"],  # and the packages tools and sandbox
    7: ["_demo"],
    8: ["cli"],
    9: ["__main__"],
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
# These stand beside the floors: what they may import is said below.
APART = {"__init__", "pytest_plugin", "testing"}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
TOOLS_FLOOR = 6
# The helper of the adapters, whose packages all bring anyio along.
BROUGHT_ALONG = {"in_thread.py": {"anyio"}}
TOOLS = sorted(path.relative_to(PACKAGE / "tools").as_posix() for path in (PACKAGE / "tools").rglob("*.py"))
SANDBOX = sorted(path.name for path in (PACKAGE / "sandbox").glob("*.py"))
LOCAL = sorted(
    path.relative_to(PACKAGE / "local").with_suffix("").as_posix() for path in (PACKAGE / "local").rglob("*.py")
)


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module of the package, and whether the import runs when the file is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            here = ("posthog_driver", *path.relative_to(PACKAGE).parts[:-1])
            base = ".".join((*here[: len(here) + 1 - node.level], *filter(None, [node.module])))
            base = base if node.level else node.module or ""
            if base == "posthog_driver":
                for alias in node.names:
                    yield f"posthog_driver.{alias.name}", id(node) in top
            else:
                yield base, id(node) in top
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top


def own(path: Path) -> set[str]:
    """The names of the package's modules (without the prefix) that a file imports."""
    return {name.split(".", 1)[1] for name, _ in imports_of(path) if name.startswith("posthog_driver.")}


def test_every_module_has_a_floor() -> None:
    assert set(MODULES) == set(FLOOR_OF) | APART


@pytest.mark.parametrize("name", sorted(FLOOR_OF))
def test_a_module_imports_from_lower_floors_only(name: str) -> None:
    for imported in own(PACKAGE / f"{name}.py"):
        root = imported.split(".")[0]
        if root == "local":
            assert name in {"cli", "_demo"}, f"{name} imports the embedded PostHog"
        elif root in {"tools", "sandbox"}:
            assert name == "cli", f"{name} imports the {root}"
        else:
            assert FLOOR_OF[root] < FLOOR_OF[name], f"{name} imports {imported}, which is not on a lower floor"


@pytest.mark.parametrize("name", ["config", "exceptions", "retry", "circuit_breaker", "rate_limiter", "query_builder"])
def test_a_layer_stands_alone(name: str) -> None:
    used = {module.split(".")[0] for module, _ in imports_of(PACKAGE / f"{name}.py")}
    others = used - set(sys.stdlib_module_names) - {"posthog_driver", "dotenv"}
    assert not others, f"{name} needs {others}"


def test_only_the_transport_sends() -> None:
    senders = [name for name in MODULES if ".send(prepared" in (PACKAGE / f"{name}.py").read_text(encoding="utf-8")]
    assert senders == ["transport"]
    users = [name for name in MODULES if any(m == "requests" for m, top in imports_of(PACKAGE / f"{name}.py") if top)]
    assert set(users) <= {"transport", "_session", "testing"}


def test_the_command_line_loads_the_tools_when_they_are_asked_for() -> None:
    at_load = [module for module, top in imports_of(PACKAGE / "cli.py") if top]
    assert not any(module.startswith(("posthog_driver.tools", "posthog_driver.sandbox")) for module in at_load)


@pytest.mark.parametrize("name", TOOLS)
def test_the_tools_import_from_lower_floors_only_and_load_nothing_else(name: str) -> None:
    path = PACKAGE / "tools" / name
    for imported in own(path):
        root = imported.split(".")[0]
        assert root == "tools" or FLOOR_OF.get(root, TOOLS_FLOOR) < TOOLS_FLOOR, f"tools/{name} imports {imported}"
    at_load = {module.split(".")[0] for module, top in imports_of(path) if top}
    others = at_load - set(sys.stdlib_module_names) - {"posthog_driver"} - BROUGHT_ALONG.get(name, set())
    assert not others, f"tools/{name} needs {others} before it is used"


@pytest.mark.parametrize("name", SANDBOX)
def test_the_sandboxes_import_from_lower_floors_only_and_load_nothing_else(name: str) -> None:
    path = PACKAGE / "sandbox" / name
    for imported in own(path):
        root = imported.split(".")[0]
        assert root == "sandbox" or FLOOR_OF.get(root, 6) < 6, f"sandbox/{name} imports {imported}"
    at_load = {module.split(".")[0] for module, top in imports_of(path) if top}
    others = at_load - set(sys.stdlib_module_names) - {"posthog_driver"}
    assert not others, f"sandbox/{name} needs {others} before it is used"


@pytest.mark.parametrize("name", LOCAL)
def test_the_embedded_posthog_is_an_island(name: str) -> None:
    path = PACKAGE / "local" / f"{name}.py"
    for imported in own(path):
        if imported.split(".")[0] == "local":
            continue
        assert name in {"__init__", "__main__"}, f"local/{name} imports {imported}"
        assert imported.split(".")[0] in {"client", "config", "exceptions", "importing"}
    at_load = [module for module, top in imports_of(path) if top and module.startswith("posthog_driver.")]
    assert all(module.startswith("posthog_driver.local") for module in at_load)


def test_the_client_never_imports_the_embedded_posthog() -> None:
    for name in FLOOR_OF:
        if FLOOR_OF[name] <= FLOOR_OF["client"]:
            assert not any(imported.startswith("local") for imported in own(PACKAGE / f"{name}.py"))


@pytest.mark.parametrize(
    "folder", [PACKAGE, PACKAGE / "local", PACKAGE / "local" / "questions", PACKAGE / "tools", PACKAGE / "sandbox"]
)
def test_there_are_no_circles(folder: Path) -> None:
    prefix = "".join(f"{part}." for part in folder.relative_to(PACKAGE).parts)
    graph = {
        path.stem: {
            name.removeprefix(prefix)
            for name in own(path)
            if name.startswith(prefix) and (folder / f"{name.removeprefix(prefix)}.py").exists()
        }
        for path in folder.glob("*.py")
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"circle: {' -> '.join((*path, name))}"
        if name not in done:
            for inner in graph.get(name, ()):
                visit(inner, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
