"""The rooms of the package: which may import which, and which may import Ray."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ltdd_ray

ROOT = Path(ltdd_ray.__file__).parent
ORDER = (
    *("common", "config", "store", "data", "nn", "experts", "distill", "evaluate", "methods"),
    *("runs", "report", "export", "cluster", "workflows", "cli"),
)  # a room imports itself and the rooms before it
LEAVES = ("", "bench")  # the package's top and bench import any room; only cli imports bench


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(ROOT.rglob("*.py"))}


def room(module: str) -> str:
    return "" if FILES[module].parent == ROOT else module.split(".")[1]


def imports(module: str) -> Iterator[str]:
    """The modules that ``module`` imports, in functions and for type checking too."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{module}: write imports in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


def own(module: str) -> set[str]:
    return {name for name in imports(module) if name in FILES}


def imported_without(blocked: Iterable[str], modules: Iterable[str]) -> str:
    """Import ``modules`` in a process that cannot import ``blocked``; returns its stderr."""
    lines = [
        "import sys",
        *(f"sys.modules[{name!r}] = None" for name in blocked),
        *(f"import {name}" for name in modules),
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_every_folder_is_a_known_room() -> None:
    assert {room(module) for module in FILES} == {*ORDER, *LEAVES}


def test_only_cluster_and_workflows_name_ray() -> None:
    users = [name for name in FILES if "ray" in {other.split(".")[0] for other in imports(name)}]
    assert len(users) > 5
    assert not [name for name in users if room(name) not in ("cluster", "workflows")]


def test_the_core_is_imported_without_ray() -> None:
    core = [name for name in FILES if room(name) in ORDER[: ORDER.index("cluster")]]
    assert len(core) > 70
    assert imported_without(["ray"], core) == ""


def test_no_process_imports_scikit_learn_before_it_is_used() -> None:
    """It takes two seconds in each of a run's processes."""
    every = [name for name in FILES if room(name) in ORDER]
    assert "ltdd_ray.workflows.pipeline" in every
    assert imported_without(["sklearn", "scipy"], every) == ""


def test_a_room_imports_only_rooms_before_it() -> None:
    upward = [
        f"{module} imports {name}"
        for module in FILES
        if room(module) in ORDER
        for name in own(module)
        if room(name) not in ORDER[: ORDER.index(room(module)) + 1]
        and (room(module), room(name)) != ("cli", "bench")
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: own(module) for module in FILES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_store_imports_no_training_code() -> None:
    training = [f"ltdd_ray.{name}" for name in ORDER[ORDER.index("store") + 1 :]]
    store = [name for name in FILES if room(name) == "store"]
    assert len(store) > 3
    assert imported_without(["ray", "torchvision", *training], store) == ""


def test_few_files_lie_loose_at_the_top() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 4


def test_the_command_line_parses_before_it_imports_torch() -> None:
    heavy = ["torch", "ray", "numpy", "pydantic", "yaml", "rich"]
    assert imported_without(heavy, ["ltdd_ray.cli.main"]) == ""
