"""The README's tables are those of the committed results, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_up_to_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.update_readme import TABLES, updated

    for page in TABLES:
        assert updated(page) == page.read_text(encoding="utf-8"), "run python benchmarks/update_readme.py"


EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.S)
TRAINING = [code for code in EXAMPLES if "IQNLoss" in code]


@pytest.mark.parametrize("code", [code for code in EXAMPLES if code not in TRAINING])
def test_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As they stand, but for a training of some steps instead of minutes."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace(".train(minutes=5)", ".train(frames=1024)"), "README.md", "exec"), {})


def test_the_training_example_starts():
    """As it stands but for the length: two batches, one with updates."""
    (code,) = TRAINING
    short = code
    for long, quick in (("total_frames=51_200", "total_frames=512"), (">= 1_000", "> 256"), ("128 if", "2 if")):
        assert code.count(long) == 1
        short = short.replace(long, quick)
    names: dict = {}
    exec(compile(short, "README.md", "exec"), names)
    assert len(names["buffer"]) == 512


def test_the_training_example_is_short():
    (code,) = TRAINING
    assert len(code.strip().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_training_example_learns(seed: int):
    """The mean of 20 greedy episodes of CartPole-v1 counts as solved from 475."""
    (code,) = TRAINING
    names: dict = {}
    exec(compile(code.replace("seed(0)", f"seed({seed})"), "README.md", "exec"), names)
    with names["set_exploration_type"](names["ExplorationType"].DETERMINISTIC), names["torch"].no_grad():
        lengths = [len(names["test"].rollout(500, names["actor"])) for _ in range(20)]
    assert sum(lengths) / 20 >= 475


def test_files_that_it_names_exist():
    for path in re.findall(r"`((?:scripts|tests|tm_torchrl|benchmarks)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
