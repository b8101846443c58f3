"""Everything on the page about own parts works: its Python, its YAML and its commands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tm_torchrl.agents import load_agent
from tm_torchrl.trainers import train

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^tm-torchrl train (.*)$", PAGE, flags=re.M)
SHORT = ["total_frames=512", "env.num_envs=4", "precision=float32", "evaluation.num=1", "log.tensorboard=false"]
QUANTILES = ["replay.learning_starts=64", "replay.batch_size=16", "replay.uses_per_transition=0.2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``my_parts.py`` and ``my_configs/``, as the page tells readers to make it."""
    (tmp_path / "my_parts.py").write_text("\n".join(blocks("python")), encoding="utf-8")
    for text in blocks("yaml"):
        (name,) = re.findall(r"^# (my_configs/\S+)$", text, flags=re.M)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "my_parts", None)
    del sys.modules["my_parts"]
    return tmp_path


def test_the_page_shows_all_kinds_of_parts() -> None:
    assert len(COMMANDS) == 7
    assert len(blocks("yaml")) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_train(command: str, own_folder: Path) -> None:
    words = shlex.split(command.replace("$PWD", own_folder.as_posix()))
    own = SHORT + ([] if "algorithm=reinforce" in words else QUANTILES)
    own += [] if "collector=plain" in words else ["collector=single"]
    own += [] if "env=gym" in words else ["env.evaluation_limits.race_s=1"]
    summary = train([*words, *own], folder=own_folder / "run", is_quiet=True)
    assert summary.frames == 512
    agent = load_agent(own_folder / "run", trust=["my_parts"])
    assert agent.evaluate(laps=1)
