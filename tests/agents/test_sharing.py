"""Agents that are shared: what goes along, what does not, what a stranger's folder cannot do, and the hub."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.live.run_folders import make_run
from tests.trainers.test_training import DRIVE
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.sharing import FILES, pull, push
from tm_torchrl.algorithms.warm_start import weights_of
from tm_torchrl.commands import pull as pull_command
from tm_torchrl.commands import push as push_command
from tm_torchrl.data.saving.weights import MODEL, write_tensors
from tm_torchrl.settings import ConfigError
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.trainers import train

STATE = torch.randn(5, 184, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training, with the best lap and the evaluations of an author."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    train([*DRIVE, "env.track=oval", "total_frames=512"], folder=folder, is_quiet=True)
    made = make_run(folder.with_name("made"))
    shutil.rmtree(folder / "laps", ignore_errors=True)
    shutil.copytree(made / "laps", folder / "laps")
    shutil.copy(made / "evaluations.jsonl", folder)
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_shared_agent_acts_like_the_run(run: Path, tmp_path: Path) -> None:
    assert push(run, str(tmp_path / "agent")) == str(tmp_path / "agent")
    agent = pull(str(tmp_path / "agent"), tmp_path / "agents" / "mine")
    original = load_agent(run)
    assert torch.equal(agent.quantiles(STATE), original.quantiles(STATE))
    assert agent.facts["frames"] == original.facts["frames"]
    assert set(weights_of(tmp_path / "agents" / "mine")) == set(original.actor.state_dict())
    lap = next((run / "laps").glob("*.npz")).name
    expected = {"config.yaml", "evaluations.jsonl", "README.md", "lap.png", MODEL, f"laps/{lap}"}
    assert names_in(tmp_path / "agents" / "mine") == expected, "no checkpoints, replay, or facts about the machine"


def test_the_page_has_the_results(run: Path, tmp_path: Path) -> None:
    push(run, str(tmp_path / "agent"))
    author_s = medals_of("oval").author_s  # type: ignore[union-attr]
    page = (tmp_path / "agent" / "README.md").read_text(encoding="utf-8")
    assert f"| oval | {author_s:.2f} s | author | 100% | {author_s:.2f} s |" in page
    assert page.startswith("---\nlibrary_name: tm_torchrl\n")


def test_the_page_tells_of_the_network_that_is_shared(run: Path, tmp_path: Path) -> None:
    """Not of the last network, whose laps may have been worse."""
    made = tmp_path / "run"
    shutil.copytree(run, made)
    best = load_agent(made).facts["frames"]
    rows = [{"track": "oval", "frames": best + k, "finish_rate": rate} for k, rate in ((0, 0.75), (512, 0.25))]
    (made / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    push(made, str(tmp_path / "agent"))
    page = (tmp_path / "agent" / "README.md").read_text(encoding="utf-8")
    assert "| 75% |" in page and "25%" not in page


def test_a_shared_agent_is_not_resumed(run: Path, tmp_path: Path) -> None:
    push(run, str(tmp_path / "agent"))
    with pytest.raises(ConfigError, match="warm_start="):
        train([f"resume='{tmp_path / 'agent'}'"], is_quiet=True)
    assert load_agent(tmp_path / "agent").facts == load_agent(run).facts, "it is as it was"


@pytest.mark.parametrize("action", ["push", "pull"])
def test_nothing_is_overwritten(action: str, run: Path, tmp_path: Path) -> None:
    push(run, str(tmp_path / "agent"))
    before = names_in(tmp_path)
    with pytest.raises(FileExistsError, match=r"target=|folder="):
        push(run, str(tmp_path / "agent")) if action == "push" else pull(str(run), tmp_path / "agent")
    assert names_in(tmp_path) == before


def test_other_files_and_links_stay_behind(run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    push(run, str(theirs))
    (theirs / "evil.py").write_text("raise SystemExit")
    (theirs / "laps" / "deep").mkdir()
    (theirs / "evaluations.jsonl").unlink()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (theirs / "evaluations.jsonl").symlink_to(secret)
    pull(str(theirs), tmp_path / "mine")
    assert not names_in(tmp_path / "mine") & {"evil.py", "evaluations.jsonl"}


@pytest.mark.parametrize("damage", ["target", "model", "missing", "shape"])
def test_a_folder_that_cannot_be_used_is_not_kept(damage: str, run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    push(run, str(theirs))
    if damage == "target":
        config = (theirs / "config.yaml").read_text(encoding="utf-8")
        (theirs / "config.yaml").write_text(config.replace("torch.optim.", "os.", 1), encoding="utf-8")
    elif damage == "model":
        (theirs / MODEL).write_bytes((theirs / MODEL).read_bytes()[:1000])
    elif damage == "missing":
        (theirs / MODEL).unlink()
    else:
        write_tensors(theirs / MODEL, {"weight": torch.zeros(2)}, notes={})
    with pytest.raises((ValueError, OSError), match=r"os\.|safetensors|another architecture"):
        pull(str(theirs), tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


class Hub(SimpleNamespace):
    """Stands in for huggingface_hub: repositories are folders."""

    def create_repo(self, repo_id: str, *, exist_ok: bool) -> None:
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str]) -> None:
        assert allow_patterns == list(FILES)
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: Any, local_dir: Path) -> None:
        assert (revision, allow_patterns) == ("main", list(FILES))
        shutil.copytree(self.root / repo_id, local_dir)


def test_through_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(root=tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["push", str(run), "hf:me/driver"])
    push_command.main()
    assert "https://huggingface.co/me/driver" in capsys.readouterr().out
    assert "tm-torchrl pull hf:me/driver" in (tmp_path / "hub/me/driver/README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["pull", "hf:me/driver@main"])
    pull_command.main()
    assert "agents/driver: oval" in capsys.readouterr().out.replace("\\", "/")
    assert torch.equal(load_agent(tmp_path / "agents/driver").predict(STATE), load_agent(run).predict(STATE))


@pytest.mark.parametrize("name", ["hf:", "hf:me", "hf:me/", "hf:a/b/c", "hf:me/x@main"])
def test_names_of_the_hub(name: str, run: Path) -> None:
    with pytest.raises(ValueError, match=r"hf:USER/NAME"):
        push(run, name)


def test_without_the_hubs_package(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"tm_torchrl\[hub\]"):
        push(run, "hf:me/driver")
