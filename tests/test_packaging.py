"""What pip installs: every room, the tracks' data and the configuration tree."""

from __future__ import annotations

import importlib.resources
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tm_torchrl

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """File names in a wheel, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    names = ["pyproject.toml", "setup.py", "README.md", "LICENSE"]
    names += [
        path.relative_to(ROOT).as_posix()
        for top in ("tm_torchrl", "configs")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    for name in names:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(copy)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_wheel_holds_every_file_of_the_package(wheel: set[str]) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tm_torchrl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "tm_torchrl/py.typed" in wanted
    assert wanted - wheel == set()


def test_wheel_holds_the_configuration_tree(wheel: set[str]) -> None:
    wanted = {
        f"tm_torchrl/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "configs").rglob("*")
        if path.suffix in (".py", ".yaml")
    }
    assert "tm_torchrl/configs/__init__.py" in wanted
    assert wanted - wheel == set()


def test_wheel_holds_nothing_else(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel} == {"tm_torchrl", f"tm_torchrl-{tm_torchrl.__version__}.dist-info"}


def test_configuration_tree_is_found_after_install() -> None:
    assert importlib.resources.files("tm_torchrl.configs").joinpath("__init__.py").is_file()


def test_constraints_pin_exactly_and_fit_every_machine() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    pattern = r'[\w.-]+==\d[\w.]*(; (python_version (<|>=) "3\.\d+"|sys_platform == "win32"))?'
    assert [pin for pin in pins if not re.fullmatch(pattern, pin)] == []
    assert {"torch==2.13.0", "torchrl==0.14.1", "tensordict==0.14.3"} <= set(pins)


def test_top_level_names_are_lazy_and_an_unknown_one_is_an_error() -> None:
    assert tm_torchrl.load_track.__module__.startswith("tm_torchrl.tracks")
    with pytest.raises(AttributeError, match="'TrackManiaEnvironment'; its public names are DPO, FQF, GRPO, IQN, PPO"):
        tm_torchrl.TrackManiaEnvironment  # noqa: B018
