"""What a trained agent is used for: training, loading, exporting, and the scripts around a run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.test_training import CARTPOLE, DRIVE, quiet
from tm_torchrl import FQF, IQN, QRDQN
from tm_torchrl.agents import load_agent, make_agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_policy, visited_states
from tm_torchrl.commands import compare, evaluate, watch
from tm_torchrl.record.run_folder import save_lap
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.stored import find_run
from tm_torchrl.trainers import train
from tm_torchrl.trainers.summary import Summary
from tm_torchrl.trainers.trainable import TrainableAgent
from tm_torchrl.trainers.training import INTERRUPTED
from tm_torchrl.world.car_row import CAR_ROW

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
ROW = {"task": "CartPole-v1", "return_mean": 1.0, "num_episodes": 2}
TINY = ["objective.network.hidden_sizes=[8,8]", "objective.network.head_size=8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a run")
    train([*DRIVE, "total_frames=512"], folder=folder / "drive", is_quiet=True)
    train([*CARTPOLE, "total_frames=1024"], folder=folder / "cartpole", is_quiet=True)
    return folder


@pytest.mark.parametrize("kind", [IQN, QRDQN, FQF])
def test_any_of_the_family_trains_evaluates_saves_and_loads(kind: type[TrainableAgent], tmp_path: Path) -> None:
    settings = [*(s for s in CARTPOLE[1:]), "replay.cut_at_exploration=false"]
    agent = kind("CartPole-v1", settings=settings, folder=tmp_path / "run")
    agent.train(frames=512, is_quiet=True)
    assert agent.evaluate(laps=2)["num_episodes"] == 2
    again = kind.load(agent.save(tmp_path / "saved"))
    state = [0.01, -0.02, 0.03, 0.04]
    assert torch.equal(again.predict(state), load_agent(tmp_path / "saved").predict(torch.tensor(state)))
    assert again.quantiles(torch.zeros(3, 4)).shape[::2] == (3, 2)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    agent = IQN("CartPole-v1", settings=CARTPOLE[1:], folder=tmp_path / "run")
    agent.train(frames=512, is_quiet=True).train(frames=1024, is_quiet=True)
    assert agent.summary is not None
    assert agent.summary.frames == 1024
    assert agent.summary.folder == tmp_path / "run"


def test_unknown_tasks_and_untrained_agents_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task='hilside': must be a track, .*; did you mean hillside\?"):
        IQN("hilside")
    agent = IQN("oval", settings=TINY)
    assert re.fullmatch(r"IQN\(oval: [\d,]+ parameters, not trained\)", str(agent))
    with pytest.raises(RuntimeError, match=r"call train\(\) first"):
        agent.save(tmp_path / "x")


def test_predictions_take_batches_mappings_and_say_what_is_missing(run: Path) -> None:
    agent = load_agent(run / "drive")
    many = torch.randn(5, 7, 184)
    assert torch.equal(agent.predict(many)[2], agent.predict({"observation": many[2]}))
    assert torch.equal(agent.predict(many), agent.predict(many.numpy()))
    with pytest.raises(ValueError, match="no observation; this network reads observation"):
        agent.predict({"pixels": many})
    with pytest.raises(ValueError, match="observation of shape"):
        agent.predict(torch.zeros(7, 3))
    with pytest.raises(ValueError, match="observation: holds values"):
        agent.predict(torch.full_like(many, torch.nan))
    with pytest.raises(ValueError, match="laps=0"):
        agent.evaluate(laps=0)
    with pytest.raises(ValueError, match="seed=-1"):
        agent.evaluate(seed=-1)
    for wrong in (torch.tensor([0.5, 2.0]), torch.zeros(0)):
        with pytest.raises(ValueError, match="fractions="):
            agent.quantiles(many[0], fractions=wrong)
    fractions = torch.tensor([0.1, 0.9])
    assert agent.quantiles(many[0], fractions=fractions).shape == (7, 2, 12)


def test_actions_of_a_policy_can_be_drawn(run: Path) -> None:
    settings = ["env=gym", "env.name=CartPole-v1", "algorithm=ppo", "objective.network.hidden_sizes=[8]"]
    agent = make_agent(compose_settings(settings))
    greedy, drawn, again, other = (
        agent.evaluate(laps=4, seed=seed, sampled=sampled)[0]["returns"]
        for seed, sampled in ((0, False), (0, True), (0, True), (1, True))
    )
    assert drawn == again
    assert len({tuple(each) for each in (greedy, drawn, other)}) == 3
    with pytest.raises(ValueError, match="sampled=True: QuantileActor"):
        load_agent(run / "cartpole").evaluate(sampled=True)


def test_a_program_replaces_a_file_only(run: Path, tmp_path: Path) -> None:
    """Torch's own writer ends the process where it cannot write, so it writes into memory."""
    agent = load_agent(run / "cartpole")
    states = visited_states(agent, 10)
    (tmp_path / "policy.pt2").mkdir()
    with pytest.raises(OSError, match=r"policy\.pt2"):
        export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2")


def test_complex_numbers_are_no_observation(run: Path) -> None:
    with pytest.raises(ValueError, match=r"observation: torch\.complex64"):
        load_agent(run / "cartpole").predict(torch.zeros(4, dtype=torch.complex64))


def test_exported_policies_act_alike(run: Path, tmp_path: Path) -> None:
    for name in ("drive", "cartpole"):
        agent = load_agent(run / name)
        states = visited_states(agent, 100)
        act = export_policy(GreedyPolicy(agent.actor), states, tmp_path / f"{name}.pt2")
        assert disagreements(agent, act, states) == 0
        assert act([state[:1] for state in states]).shape == (1,)


def test_the_next_commands_are_quoted_for_the_shell_and_for_hydra(tmp_path: Path) -> None:
    summary = quiet([*CARTPOLE, "total_frames=256"], tmp_path / "two words")
    words = shlex.split(str(summary).splitlines()[-1])
    assert words[-2] == f"resume={tmp_path / 'two words'}"
    assert quiet(words[-2:], tmp_path / "ignored").frames == 512


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Calls a command in this process."""

    def call(command: ModuleType, *words: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", ["tm-torchrl", *map(str, words)])
        command.main()

    return call


def test_evaluate_prints_json_and_nothing_else(
    run: Path, call: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    script = [sys.executable, str(SCRIPTS / "evaluate.py"), str(run / "drive"), "--laps", "3", "--json"]
    found = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    row = json.loads(found.stdout)
    assert (row["track"], row["num_laps"]) == ("oval", 3)
    assert {"return_mean", "finish_rate", "best_lap_s", "median_lap_s", "medal"} <= set(row)
    capsys.readouterr()
    call(evaluate, run / "cartpole", "--laps", "2", "--json")
    assert len(json.loads(capsys.readouterr().out)["returns"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["EMPTY"], "is not a run folder"),
        (["RUN", "track=ovall"], "did you mean oval"),
        (["RUN", "--laps", "0"], "--laps 0"),
        (["RUN", "--sampled"], "sampled=True: QuantileActor has no policy"),
    ],
)
def test_evaluate_says_what_is_wrong(
    words: list[str], message: str, run: Path, call: Callable[..., None], tmp_path: Path
) -> None:
    folders = {"EMPTY": str(tmp_path), "RUN": str(run / "drive")}
    with pytest.raises(SystemExit, match=message):
        call(evaluate, *(folders.get(word, word) for word in words))


def test_changes_of_null_are_left_out_where_a_task_has_no_such_setting(run: Path) -> None:
    """``evaluate track=NAME`` sets the list of tracks to null, which a game has not."""
    assert load_agent(run / "drive", env={"track": "oval", "tracks": None, "elsewhere": None}).task.label == "oval"
    with pytest.raises(ValueError, match=r"^env\.elsewhere: "):
        load_agent(run / "drive", env={"elsewhere": 1})


def test_the_newest_run_is_found(
    run: Path, call: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_run(run) == run / "cartpole"
    monkeypatch.chdir(run.parent)
    for name, words in (("of a folder", ["a run0"]), ("named", ["a run0/drive", "--track", "ring"])):
        call(evaluate, *words, "--laps", "1", "--json")
        shown = capsys.readouterr()
        assert json.loads(shown.out).get("track") == ("ring" if name == "named" else None)
        assert shown.err == ("" if name == "named" else "run: a run0/cartpole\n")
    (run.parent / "runs").symlink_to(run)
    assert find_run("latest") == Path("runs/cartpole")


def test_the_kept_record_is_filmed(run: Path, call: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros((3, CAR_ROW.size), np.float32)
    save_lap(run / "drive", "oval", 21.5, rows=rows, actions=np.zeros(2, np.int64))
    lap = watch.kept_lap(run / "drive", None, trust=[])
    assert lap is not None
    assert (lap.track.name, len(lap.rows), lap.result) == ("oval", 3, "21.50 s, silver medal")
    assert watch.kept_lap(run / "drive", "ring", trust=[]) is None


def test_reports_and_comparisons_are_written(run: Path, call: Callable[..., None], tmp_path: Path) -> None:
    for name in ("drive", "cartpole"):
        page = run / name / "report.html"
        text = page.read_text(encoding="utf-8")
        assert page.stat().st_size < 3e6
        assert 'src="http' not in text
        assert 'href="http' not in text
    out = tmp_path / "compare.png"
    call(compare, run / "drive", run / "drive", "--out", out)
    assert out.stat().st_size > 10_000
    with pytest.raises(SystemExit, match="no evaluations"):
        call(compare, tmp_path)


@pytest.mark.parametrize(
    ("ended", "advice"),
    [
        ({"frames": 512, "seconds": 60.0, "reason": "all 512 frames were played"}, "total_frames=1024"),
        ({"frames": 256, "seconds": 30.0, "reason": INTERRUPTED}, "resume=run"),
        ({"frames": 256, "seconds": 120.5, "reason": "2 minutes are over"}, "max_minutes=4"),
        ({"frames": 256, "seconds": 9.0, "reason": "the target of 475 was reached"}, "evaluation.target_score=null"),
    ],
)
def test_the_last_line_tells_how_to_go_on(ended: dict[str, Any], advice: str) -> None:
    settings = {"total_frames": 512, "max_minutes": 2.0, "evaluation": {"target_score": 475}}
    summary = Summary(folder=Path("run"), agent=None, settings=settings, rows=[ROW], **ended)  # type: ignore[arg-type]
    assert str(summary).split()[-1] == advice


@pytest.mark.parametrize("limit", [{"minutes": 0}, {"minutes": -1.5}, {"frames": 0}])
def test_limits_of_train_are_named_as_they_were_given(limit: dict[str, Any]) -> None:
    ((name, value),) = limit.items()
    agent = TrainableAgent.__new__(TrainableAgent)
    agent.settings = {}
    with pytest.raises(ValueError, match=f"^{name}={value}: must be .*, or None for "):
        agent.train(**limit)


def test_the_last_lines_tell_the_record(tmp_path: Path) -> None:
    """Of 23.0 s (bronze is 24.79, silver 22.89), whatever the laps of the best evaluation took."""
    save_lap(tmp_path, "oval", 23.0, rows=np.zeros((2, 2)))
    settings = {"total_frames": 512, "max_minutes": None, "evaluation": {"target_score": None}}
    ended: dict[str, Any] = {"frames": 512, "seconds": 75.0, "reason": "all 512 frames were played"}
    laps = {"track": "oval", "finish_rate": 1.0, "num_laps": 2, "best_lap_s": 24.0, "median_lap_s": 25.0, "frames": 256}
    rows: dict[str, Any] = {"rows": [laps], "best_rows": [laps]}
    text = str(Summary(folder=tmp_path, agent=None, settings=settings, **rows, **ended))  # type: ignore[arg-type]
    assert text.startswith("Ended after 512 frames in 1:15: all 512 frames were played.\n")
    assert "(most laps finished, frame 256)" in text
    assert "\n  record:  oval: 23.00 s, bronze medal\n" in text
