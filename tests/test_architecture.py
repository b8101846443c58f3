"""The house rules that a program can check; each check is a function of source text and is shown a text that fails."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tm_torchrl import lazy

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tm_torchrl"
MAX_LINES = 400
EXTRAS_OF_ALL = ("sim", "train", "report")
MAX_IMPORT_S = 0.2  # on top of numpy, which takes as long on slow machines

FLOORS = {
    "lazy": -1,
    "invocation": -1,
    "tracks": 0,
    "settings": 1,
    "world": 1,
    "sim": 2,
    "game": 3,
    "envs": 4,
    "modules": 4,
    "data": 4,
    "collectors": 5,
    "objectives": 5,
    "evaluation": 6,
    "record": 6,
    "tasks": 7,
    "algorithms": 8,
    "agents": 9,
    "trainers": 11,
    "experiments": 12,
    "live": 10,
    "linesight": 12,
    "commands": 13,
}

SOURCES = sorted(PACKAGE.rglob("*.py"))
PROGRAM_FOLDERS = ("scripts", "examples", "benchmarks", "configs")
PROGRAMS = sorted(path for folder in PROGRAM_FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, *, package: str = "") -> Iterator[str]:
    """Every module that a source imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield from ([f"{base}.{alias.name}" for alias in node.names] if base == "tm_torchrl" else [base])


def floor_breaches(room: str, source: str, *, package: str = "") -> list[str]:
    """Imports from a floor that is not lower than the room's own."""
    breaches = []
    for module in imported_modules(source, package=package):
        parts = module.split(".")
        if parts[0] != "tm_torchrl" or parts[1:2] == [room]:
            continue
        other = parts[1] if len(parts) > 1 else ""
        if FLOORS.get(other, 99) >= FLOORS[room]:
            breaches.append(f"{room} (floor {FLOORS[room]}) imports {module} (floor {FLOORS.get(other, 'roof')})")
    return breaches


def prints(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "pprint")
    ]


def imports_at_load(source: str, module: str) -> bool:
    """Whether a module is imported as soon as the source is, rather than by a function that is called."""

    def visit(node: ast.AST) -> bool:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return False
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == module for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == module:
            return True
        return any(visit(child) for child in ast.iter_child_nodes(node))

    return visit(ast.parse(source))


def third_party(source: str) -> set[str]:
    tops = {module.split(".")[0] for module in imported_modules(source, package="tm_torchrl")}
    return tops - set(sys.stdlib_module_names) - {"tm_torchrl", "tests", "benchmarks", "scripts", "configs"}


packages_distributions = functools.cache(importlib.metadata.packages_distributions)  # reads every installed package


def declared(*extras: str) -> set[str]:
    """Names of the modules that the dependencies, and those of extras, bring; one not installed brings its own name."""

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    read = importlib.import_module("setuptools.config.pyprojecttoml").load_file
    project = read(ROOT / "pyproject.toml")["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    wanted = {plain(re.split(r"[^\w.-]", line)[0]) for line in lines}
    owners = packages_distributions()
    modules = {module for module, names in owners.items() if wanted & {plain(name) for name in names}}
    return wanted | {name.replace("-", "_") for name in wanted} | modules


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_lower_floors_only(room: str) -> None:
    assert room in FLOORS, f"{room} is not in the table of floors"
    breaches = [
        f"{name_of(path)}: {breach}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for breach in floor_breaches(
            room,
            path.read_text("utf-8"),
            package=module_of(path) if path.name == "__init__.py" else module_of(path.parent / "__init__.py"),
        )
    ]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("room", "source", "num_breaches"),
    [
        ("tracks", "import numpy", 0),
        ("sim", "from tm_torchrl.tracks import Track", 0),
        ("sim", "from tm_torchrl.sim import tuning", 0),
        ("tracks", "from tm_torchrl.world import layout", 1),
        ("envs", "from tm_torchrl.modules.encoders.multi import Encoder", 1),  # neighbours do not see each other
        ("tracks", "def late():\n    import tm_torchrl.sim.simulator", 1),
        ("sim", "from tm_torchrl import TrackManiaEnv", 1),  # the roof
        ("sim", "from ..envs import rewards", 1),
        ("sim", "from . import tuning", 0),
        ("world", '"""Speaks of tm_torchrl.sim only."""', 0),
    ],
)
def test_floor_check_can_fail(room: str, source: str, num_breaches: int) -> None:
    assert len(floor_breaches(room, source, package=f"tm_torchrl.{room}")) == num_breaches


def test_of_the_game_only_the_emulator_knows_the_simulator() -> None:
    users = [
        name_of(path)
        for path in sorted((PACKAGE / "game").rglob("*.py"))
        if not path.is_relative_to(PACKAGE / "game" / "emulator")
        and any(module.startswith("tm_torchrl.sim") for module in imported_modules(path.read_text("utf-8")))
    ]
    assert users == [], "a client of the game drives without the simulator; game/emulator/ is the place for this"


def test_every_folder_of_the_package_is_a_room() -> None:
    stray = [
        path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py")) and path.name not in ROOMS
    ]
    assert not stray, f"folders without __init__.py: {stray}"


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in [*SOURCES, *PROGRAMS, *TESTS]}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_file_names_say_their_subject() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}
    assert [name_of(path) for path in [*SOURCES, *PROGRAMS, *TESTS] if path.stem in vague] == []


def test_package_prints_nothing_but_in_commands() -> None:
    sources = [path for path in SOURCES if not path.is_relative_to(PACKAGE / "commands")]
    found = {name_of(path): lines for path in sources if (lines := prints(path.read_text("utf-8")))}
    assert found == {}


def test_print_check_can_fail() -> None:
    assert prints("x = 1\nprint(x)") == [2]
    assert prints('"""\n>>> print(1)\n"""') == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=module_of)
def test_public_names_exist_and_are_explained(path: Path) -> None:
    module = importlib.import_module(module_of(path))
    assert module.__doc__
    for name in getattr(module, "__all__", []):
        public = getattr(module, name)
        if inspect.isclass(public) or inspect.isroutine(public):
            explanation = public.__doc__ or ""
            assert explanation and not explanation.startswith(f"{name}("), f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize("module", ["tm_torchrl", "tm_torchrl.tracks", "tm_torchrl.envs.registration"])
def test_import_is_light(module: str) -> None:
    program = (
        "import numpy, sys, time; start = time.process_time(); import " + module + "; "
        "heavy = {'torch', 'warp', 'matplotlib', 'tensordict'} & set(sys.modules); "
        "print(time.process_time() - start, *heavy)"  # CPU seconds: a busy neighbour does not count
    )
    seconds = []
    for _ in range(5):
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ
        )
        took, *heavy = run.stdout.split()
        assert not heavy, f"import {module} imports {heavy}"
        seconds.append(float(took))
    assert min(seconds) < MAX_IMPORT_S, f"import {module} takes {min(seconds):.2f} s"


def test_tminterface_is_imported_lazily_in_one_file_of_game() -> None:
    users = [path for path in SOURCES + PROGRAMS if "tminterface" in third_party(path.read_text("utf-8"))]
    assert len(users) <= 1, f"tminterface is imported by {[name_of(path) for path in users]}"
    for path in users:
        assert path.is_relative_to(PACKAGE / "game")
        assert not imports_at_load(path.read_text("utf-8"), "tminterface")


@pytest.mark.parametrize(
    ("source", "is_at_load"),
    [
        ("import tminterface", True),
        ("from tminterface.structs import SimStateData", True),
        ("class Client:\n    import tminterface", True),
        ("try:\n    import tminterface\nexcept ImportError:\n    pass", True),
        ("def connect():\n    from tminterface.interface import TMInterface", False),
    ],
)
def test_lazy_import_check_can_fail(source: str, is_at_load: bool) -> None:
    assert imports_at_load(source, "tminterface") is is_at_load


@pytest.mark.parametrize("kind", ["package", "programs", "tests"])
def test_imports_are_declared(kind: str) -> None:
    paths = {"package": SOURCES, "programs": PROGRAMS, "tests": TESTS}[kind]
    allowed = declared(*EXTRAS_OF_ALL, "sb3", "ray", {"package": "tmi1", "programs": "bench", "tests": "dev"}[kind])
    found = {
        name_of(path): undeclared
        for path in paths
        if (
            undeclared := {
                top for top in third_party(path.read_text("utf-8")) if {top, top.lower()}.isdisjoint(allowed)
            }
        )
    }
    assert found == {}


def test_declaration_check_can_fail() -> None:
    allowed = declared("train")
    assert third_party("import os, numpy\nfrom PIL import Image") <= allowed
    assert third_party("def f():\n    import pytest") - allowed == {"pytest"}
    assert "pytest" in declared("dev")


def test_a_missing_package_names_its_extra() -> None:
    core = declared()
    assert {module for module, extra in lazy.EXTRAS.items() if module not in declared(extra) - core} == set()
    imported = set().union(*(third_party(path.read_text("utf-8")) for path in SOURCES))
    assert imported & (declared(*EXTRAS_OF_ALL, "sb3", "ray") - core) <= set(lazy.EXTRAS)


@pytest.mark.parametrize("path", [*SOURCES, *PROGRAMS, *TESTS], ids=name_of)
def test_source_is_python_3_10(path: Path) -> None:
    ast.parse(path.read_text("utf-8"), feature_version=(3, 10))


def test_file_names_work_on_every_system() -> None:
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("not a git checkout")
    names = run.stdout.strip("\0").split("\0")
    assert [name for name in names if re.search(r'[<>:"|?*\\]', name)] == []
    assert len({name.lower() for name in names}) == len(names), "two file names differ in capitals only"
