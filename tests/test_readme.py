"""The tables of the README and of docs/ are those of the committed results; the Python on all pages runs."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}


def test_tables_are_up_to_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.update_readme import TABLES, updated

    for page in TABLES:
        assert updated(page) == page.read_text(encoding="utf-8"), "run python benchmarks/update_readme.py"


EXAMPLES = [
    pytest.param(code, id=f"{name}-{i}")
    for name, text in TEXTS.items()
    if name not in ("docs/extending.md", "docs/other_libraries.md")  # tests/test_extending.py, tests/test_examples.py
    if name != "docs/game.md"  # it needs the game
    if name != "docs/losses.md"  # below
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.S))
]
TRAINING, OWN_NETWORK = (code for code in re.findall(r"```python\n(.*?)```", TEXTS["docs/losses.md"], flags=re.S))


SHORTER = {  # what examples train for, and what they train for here
    ".train(minutes=5)": ".train(frames=1024)",
    '"total_frames=100_000"': '"total_frames=1024", "env.evaluation_limits.race_s=1"',
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code: str, tmp_path: Path):
    """Saved to a file and started, as users do, but for a training of some steps instead of minutes."""
    for long, quick in SHORTER.items():
        code = code.replace(long, quick)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    process = multiprocessing.Process(target=_start, args=(tmp_path,))
    process.start()
    process.join(120)
    is_running = process.is_alive()
    process.kill()
    assert not is_running and process.exitcode == 0, (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert len(list(tmp_path.glob("runs/**/config.yaml"))) == code.count("train("), "workers train nothing"


def _start(folder: Path) -> None:
    """What ``python example.py`` does, in a process that has imported torch."""
    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.path.insert(0, str(folder))
    sys.argv = ["example.py"]
    runpy.run_path("example.py", run_name="__main__")


def test_the_training_example_starts():
    """As it stands but for the length: two batches, one with updates."""
    short = TRAINING
    for long, quick in (("total_frames=51_200", "total_frames=512"), (">= 1_000", "> 256"), ("128 if", "2 if")):
        assert short.count(long) == 1
        short = short.replace(long, quick)
    names: dict = {}
    exec(compile(short, "docs/losses.md", "exec"), names)
    assert len(names["buffer"]) == 512


def test_a_network_of_ones_own_learns():
    """One batch of five states, three fractions each."""
    names: dict = {}
    exec(compile(OWN_NETWORK, "docs/losses.md", "exec"), names)
    after = {"observation": torch.ones(5, 4), "reward": torch.ones(5, 1)}
    after |= {name: torch.zeros(5, 1, dtype=torch.bool) for name in ("done", "terminated")}
    batch = TensorDict({"observation": torch.zeros(5, 4), "action": torch.tensor([0, 1, 1, 0, 1]), "next": after}, [5])
    names["loss"](batch)["loss"].backward()
    assert all(weight.grad is not None for weight in names["loss"].parameters())
    values = names["network"](batch.set("fractions", torch.rand(5, 3)))["quantile_values"]
    assert values.mean(-2).argmax(-1).shape == (5,)


def test_the_training_example_is_short():
    assert len(TRAINING.strip().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_training_example_learns(seed: int):
    """The mean of 20 greedy episodes of CartPole-v1 counts as solved from 475."""
    names: dict = {}
    exec(compile(TRAINING.replace("seed(0)", f"seed({seed})"), "docs/losses.md", "exec"), names)
    with names["set_exploration_type"](names["ExplorationType"].DETERMINISTIC), names["torch"].no_grad():
        lengths = [len(names["test"].rollout(500, names["actor"])) for _ in range(20)]
    assert sum(lengths) / 20 >= 475


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_pages_name_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(
        r"(?:`|python )((?:scripts|tests|tm_torchrl(?!/TrackMania)|benchmarks|configs)/[\w./]*)", text
    ):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", TEXTS)
def test_commands_that_pages_name_exist(name: str):
    from tm_torchrl.commands.main import COMMANDS

    assert set(re.findall(r"(?:`|^)tm-torchrl ([a-z][a-z-]*)", TEXTS[name], flags=re.M)) <= set(COMMANDS)
