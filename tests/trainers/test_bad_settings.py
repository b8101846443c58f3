"""Settings whose parts cannot be built or do not fit: one line that names the setting, and no folder is left."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.settings.construct import construct
from tm_torchrl.trainers import train
from tm_torchrl.trainers.command import run_command

SEES = ["env.pixels=true", "network=impala"]
TRUNK = "objective.network.trunk={_target_: tm_torchrl.modules.ResidualTrunk, num_blocks: 2}"
NOISY = ["objective.network.linear=noisy", "exploration=noisy"]
CASES = {
    "image of another size": ([*SEES, "+objective.network.image.image_size=96"], "image_size=96: the images are 64 x"),
    "image too small": (
        ["env.pixels=true", "network=classic", "+objective.network.image.image_size=20"],
        "objective.network.image: image_size=20: too small for four convolutions",
    ),
    "pool larger than the map": ([*SEES, "objective.network.image.pool_size=9"], "leaves a map of 8 x 8; give 1 to 8"),
    "block size": (["env.action_block=3"], r"^env: action_block=3: choose 1 \(held 50 ms\) or 5 \(10 ms each\)$"),
    "no block size": (["env.action_block=null"], "^env.action_block=null: a whole number wanted$"),
    "noise without noisy exploration": ([NOISY[0]], "exploration: the network has noisy layers, but"),
    "noisy exploration without noise": ([NOISY[1]], "exploration: actor: it has no noisy layers"),
    "epsilon of a block without epsilon": (
        [*NOISY, "env.action_block=5", "exploration.epsilon=null", "exploration.per_block=true"],
        "per_block=true, epsilon=null: noise alone draws no actions",
    ),
    "activation": (["objective.network.activation=rellu"], "did you mean 'relu'"),
    "fractions that it does not have": (
        ["objective=qrdqn", "objective.num_acting_fractions=4"],
        "objective.num_acting_fractions: num_fractions=4: the network has 32 fixed fractions",
    ),
    "not waiting for its arguments": (
        [TRUNK],
        "objective.network.trunk: num_features is still to be given",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_before_a_folder_is_made(name: str, tmp_path: Path) -> None:
    settings, message = CASES[name]
    with pytest.raises(ConfigError, match=message):
        train(["env.num_envs=2", *settings], folder=tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_value_that_cannot_be_read_is_told_with_its_quotes() -> None:
    key, value = "game.launcher.variables.loader", r"C:\Program Files (x86)\TMLoader\TMLoader.exe"
    with pytest.raises(ConfigError, match="want quotes of their own") as refused:
        compose_settings(["env=game", "game=tmi2_windows", f"{key}={value}"])
    quoted = str(refused.value).rpartition(": ")[2].strip("'")
    assert quoted == f'{key}="{value}"'
    settings = compose_settings(["env=game", "game=tmi2_windows", quoted])
    assert settings["env"]["game"]["launcher"]["variables"]["loader"] == value


@pytest.mark.parametrize("named", [False, True])
def test_the_command_leaves_no_empty_folder(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra makes the folder before the settings are looked at; one that was named may have been the user's before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    names = ["hydra.run.dir=run"] if named else []
    monkeypatch.setattr(sys, "argv", ["train_iqn.py", "env.action_block=3", *names])
    with pytest.raises(SystemExit) as ended:
        run_command("train_iqn")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: env: action_block=3: choose 1 (held 50 ms) or 5 (10 ms each)\n"
    assert (tmp_path / "run").is_dir()
    assert not list(tmp_path.glob("runs/*"))


def test_an_interrupt_before_anything_is_written_is_one_word_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tm_torchrl.trainers.run.train", interrupted)
    monkeypatch.setattr(sys, "argv", ["train_iqn.py"])
    with pytest.raises(SystemExit) as ended:
        run_command("train_iqn")
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
        run_command("train_iqn")
    assert ended.value.code == 2
    words = capsys.readouterr().err
    assert words.startswith("error: nobody answers at 127.0.0.1:2 (")
    assert words.endswith("game.has_evaluation_instance=false collector=single\n")
    assert words.count("\n") == 1


def test_arguments_that_are_given_later_are_not_missed() -> None:
    settings = {"_target_": "tm_torchrl.modules.ResidualTrunk"}
    with pytest.raises(ConfigError, match=r"^trunk: num_features is still to be given by what uses it; add _partial_"):
        construct(settings, name="trunk")
    assert len(construct(settings, name="trunk", num_features=8).blocks) == 1
    assert len(construct({**settings, "_partial_": True}, name="trunk")(8).blocks) == 1
