"""Wrong settings are refused by their name, in one line, before a folder is made."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tm_torchrl.commands.main import run
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.trainers import train
from tm_torchrl.trainers.options import RunOptions

DRIVE = ["env.num_envs=2", "objective.network.hidden_sizes=[4]", "device=cpu", "precision=float32"]
CARTPOLE = ["experiment=cartpole_iqn", "objective.network.hidden_sizes=[8,8]", "precision=float32"]
SEES = ["env.pixels=true", "network=impala"]
NOISY = ["objective.network.linear=noisy", "exploration=noisy"]
HUGE = 10**400  # too large for a float

OVERRIDES = [  # the last one is wrong; the message begins with its name and value unless another beginning is given
    ["env.tracks=oval"],
    ["env.blind_tracks=oval"],
    ["env.generated_tracks=-1"],
    ["env.reward.further=abc"],
    ["env.randomisation=abc"],
    ["env.action_block=3"],
    ["env.action_block=null"],
    ["env.num_envs=0"],
    ["env.num_envs=2.5"],
    ["soft_reset=abc"],
    ["objective.num_acting_fractions=0"],
    ["objective=qrdqn", "objective.num_acting_fractions=4"],
    ["+objective.network.num_inputs=5"],
    ["objective.network.activation=rellu"],
    ["objective.loss.kappa=abc"],
    ["objective.loss.kappa=1e308"],
    ["objective.loss.num_fractions=7"],
    ["env.reward.close_to_line_per_m=1e308"],
    ["env.reward.finish=[linear,[0,0],[100,-1e7]]"],
    ["target_update.tau=2"],
    ["target_update.tau=abc"],
    ["optimizer.eps=abc"],
    ["evaluation.num=0"],
    ["evaluation.every_frames=abc"],
    ["evaluation.seed=-1"],
    ["log.every_frames=0"],
    ["log.diagnostics_every=0"],
    ["checkpoint.keep=0"],
    ["checkpoint.first_minutes=nan"],
    ["checkpoint.replay_every_minutes=-1"],
    ["total_frames=-5"],
    ["collector=clock"],
    ["total_frames=null"],
    ["max_minutes=abc"],
    ["max_minutes=0"],
    ["gamma=abc"],
    ["gamma=[linear,[0,0.9],[10,1.5]]"],
    ["learning_rate=-1"],
    ["schedule_speed=0"],
    ["schedule_speed=1e308"],
    ["schedule_speed=1e-300"],
    ["num_threads=0"],
    ["seed=1.5"],
    ["seed=true"],
    ["seed=-1"],
    ["precision=float16"],
    ["device=null"],
    ["device=meta"],
    ["collector.kind=multi"],
    ["collector.kind=multisync"],
    ["collector.push_every=0"],
    ["collector.num_workers=3", "collector=multi_sync"],
    ["replay.capacity=null"],
    ["replay.capacity=[[0,100]]"],
    ["replay.learning_starts=400000"],
    ["replay.storage=memry"],
    ["replay.mini_race=abc"],
    ["replay.mini_race=5"],
    ["replay.mini_race={num_action: 140}"],
    ["replay.held_out_share=1"],
    ["replay.augmentation={_target_: tm_torchrl.envs.transforms.RandomShift, pad: 4}"],
    ["learner.compile=abc"],
    ["learner.clip_norm=-1"],
    ["exploration.epsilon=2"],
    [*NOISY, "exploration.mean_steps=4", "exploration.epsilon=null"],
    ["objective.network.linear=noisy"],
    ["exploration=noisy"],
    [*SEES, "+objective.network.image.image_size=96"],
    [*SEES, "objective.network.image.pool_size=9"],
]
NAMES = {  # where the message names another setting than the override
    "collector=multi_sync": "collector.num_workers=3",
    "replay.mini_race={num_action: 140}": "replay.mini_race.num_action",
    "replay.held_out_share=1": "replay: share=1",
    "replay.augmentation={_target_: tm_torchrl.envs.transforms.RandomShift, pad: 4}": "replay.augmentation",
    "+objective.network.image.image_size=96": "objective.network: image_size=96",
    "exploration.epsilon=null": "exploration.*mean_steps=4",
    "objective.network.linear=noisy": "exploration: ",
    "exploration=noisy": "exploration: ",
}


@pytest.mark.parametrize("overrides", OVERRIDES, ids=lambda words: " ".join(words))
def test_a_wrong_setting_is_named(overrides: list[str], tmp_path: Path) -> None:
    settings = compose_settings([*DRIVE, *overrides])
    name = NAMES.get(overrides[-1])
    with pytest.raises(ConfigError) as caught:
        train(settings, folder=tmp_path / "run", is_quiet=True)
    assert re.match(name or re.escape(overrides[-1].partition("=")[0].lstrip("+")), str(caught.value)), caught.value
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("override", ["env.name=CartPool-v1", "env.name=5"])
def test_a_wrong_task_is_named(override: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name="):
        train(compose_settings([*CARTPOLE, override]), folder=tmp_path / "run", is_quiet=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("env.limits.race_s", HUGE, r"^env\.limits\.race_s=1000"),
        ("env.starts", 5, r"^env\.starts=5"),
        ("env.starts._target_", "tm_torchrl.data.ReuseBudget", r"^env\.starts"),
        ("env.starts._target_", "", r"^env\.starts\._target_="),
        ("env.starts._target_", "tm_torchrl.settings.nearest", r"^env\.starts\._target_=.*module"),
        ("env", {"_target_": "tm_torchrl.data.ReuseBudget", "uses_per_transition": 8}, r"^env\._target_="),
        ("algorithm", {"_target_": "tm_torchrl.data.ReuseBudget"}, r"^algorithm\._target_="),
        ("algorithm", {}, r"^algorithm: must have a _target_"),
        ("optimizer._partial_", {}, r"^optimizer\._partial_="),
        ("objective.network._partial_", False, r"^objective\.network: .*_partial_: true"),
        ("objective.network.trunk", {"_target_": "tm_torchrl.modules.ResidualTrunk"}, r"trunk: num_features"),
        ("learner", "abc", "^learner='abc'|^learner"),
        ("replay.num_steps", 1.5, r"^replay\.num_steps=1\.5"),
    ],
)
def test_a_value_of_another_kind_is_named(name: str, value: Any, message: str, tmp_path: Path) -> None:
    settings = changed(compose_settings(DRIVE), name, value)
    with pytest.raises(ConfigError, match=message):
        train(settings, folder=tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def changed(settings: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A copy with another value of a setting."""
    first, _, rest = name.partition(".")
    return {**settings, first: changed(settings[first], rest, value) if rest else value}


@pytest.mark.parametrize(
    "name", ["replay", "optimizer", "gamma", "total_frames", "collector", "evaluation.num", "log.every_frames"]
)
def test_a_missing_setting_is_named(name: str, tmp_path: Path) -> None:
    settings = compose_settings(DRIVE)
    room = settings
    *rooms, last = name.split(".")
    for inner in rooms:
        room = room[inner]
    del room[last]
    with pytest.raises(ConfigError, match=rf"^{re.escape(name)}"):
        train(settings, folder=tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def test_whole_numbers_may_be_written_as_powers(tmp_path: Path) -> None:
    options = RunOptions.of(compose_settings(["total_frames=1e6"]))
    assert (options.total_frames, type(options.total_frames)) == (1_000_000, int)


@pytest.mark.parametrize(("given", "found"), [(0, "0"), ("runs/a", "runs/a"), (Path("a"), "a"), (None, None)])
def test_a_run_folder_may_be_named_by_a_number(given: object, found: str | None) -> None:
    assert RunOptions.of({**compose_settings(), "resume": given}).resume == found


@pytest.mark.parametrize("given", [True, "", [1]])
def test_what_is_not_a_folder_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"^resume="):
        RunOptions.of({**compose_settings(), "resume": given})


def test_a_value_that_cannot_be_read_is_told_with_its_quotes() -> None:
    key, value = "game.launcher.variables.loader", r"C:\Program Files (x86)\TMLoader\TMLoader.exe"
    with pytest.raises(ConfigError, match=key) as refused:
        compose_settings(["env=game", "game=tmi2_windows", f"{key}={value}"])
    quoted = str(refused.value).rpartition(": ")[2].strip("'")
    assert quoted == f'{key}="{value}"'
    settings = compose_settings(["env=game", "game=tmi2_windows", quoted])
    assert settings["env"]["game"]["launcher"]["variables"]["loader"] == value


@pytest.mark.parametrize("named", [False, True])
def test_the_command_leaves_no_empty_folder(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    names = ["hydra.run.dir=run"] if named else []
    monkeypatch.setattr(sys, "argv", ["train_iqn.py", "env.action_block=3", *names])
    with pytest.raises(SystemExit) as ended:
        run("train")
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: env.action_block=3: ") and message.count("\n") == 1
    assert (tmp_path / "run").is_dir()
    assert not list(tmp_path.glob("runs/*"))


def test_an_interrupt_before_anything_is_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tm_torchrl.trainers.run.train", interrupted)
    monkeypatch.setattr(sys, "argv", ["train_iqn.py"])
    with pytest.raises(SystemExit) as ended:
        run("train")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not list(tmp_path.glob("runs/*"))


def test_a_game_that_nobody_started_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = ["game.first_address=1", "game.client.connect_timeout_s=0.3"]  # nobody listens at ports below 1024
    small = ["precision=float32", "objective.network.hidden_sizes=[16]"]
    monkeypatch.setattr(sys, "argv", ["train_iqn.py", "env=game", "game=tmi2", *alone, *small])
    with pytest.raises(SystemExit) as ended:
        run("train")
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "127.0.0.1:2" in message
    assert message.endswith("game.has_evaluation_instance=false collector=single\n")
    assert message.count("\n") == 1
