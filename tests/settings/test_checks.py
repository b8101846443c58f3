"""Settings that cannot be meant so are refused with their name, before a folder is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.settings.checks import CHECKS, checked
from tm_torchrl.settings.construct import construct
from tm_torchrl.tasks.build import build_task, choose_device
from tm_torchrl.trainers import train
from tm_torchrl.trainers.builders import build_training

WRONG = [
    ("env.tracks=oval", "env.tracks='oval': a list wanted"),
    ("env.blind_tracks=oval", "env.blind_tracks='oval': a list wanted, such as [oval, ring]"),
    ("env.generated_tracks=-1", "env.generated_tracks=-1: a whole number of at least 0 and at most 10,000 wanted"),
    ("env.reward.further=abc", "env.reward.further='abc': a list of settings with _target_ wanted"),
    ("env.randomisation=abc", "env.randomisation='abc': settings with _target_, or null, wanted"),
    ("soft_reset=abc", "soft_reset='abc': settings with _target_, or null, wanted"),
    ("objective.num_acting_fractions=0", "objective.num_acting_fractions=0: a whole number of at least 1, or null,"),
    ("target_update.tau=2", "target_update.tau=2: a number of at least 0 and at most 1 wanted"),
    ("evaluation.num=0", "evaluation.num=0: a whole number of at least 1 wanted"),
    ("evaluation.every_frames=abc", "evaluation.every_frames='abc': a whole number of at least 1 wanted"),
    ("log.every_frames=0", "log.every_frames=0: a whole number of at least 1 wanted"),
    ("log.diagnostics_every=0", "log.diagnostics_every=0: a whole number"),
    ("checkpoint.keep=0", "checkpoint.keep=0: a whole number of at least 1 wanted"),
    ("checkpoint.first_minutes=nan", "checkpoint.first_minutes=nan: a number above 0 wanted"),
    ("checkpoint.replay_every_minutes=-1", "checkpoint.replay_every_minutes=-1: a number above 0, or null, wanted"),
    ("total_frames=-5", "total_frames=-5: a whole number of at least 1 wanted"),
    ("total_frames=null", "total_frames=null: a whole number of at least 1 wanted"),
    ("max_minutes=abc", "max_minutes='abc': a number above 0, or null, wanted"),
    ("gamma=abc", "gamma='abc': a number or a schedule such as"),
    ("gamma=nan", "gamma=nan: a finite number wanted"),
    ("gamma=[linear,[0,0.9],[10,1.5]]", "gamma=[linear, [0, 0.9], [10, 1.5]]: 1.5, but a number of at least 0 and at"),
    ("learning_rate=-1", "learning_rate=-1: -1, but a number of at least 0 wanted"),
    ("schedule_speed=0", "schedule_speed=0: a number above 0 wanted"),
    ("num_threads=0", "num_threads=0: a whole number of at least 1 and at most 1,024 wanted"),
    ("seed=1.5", "seed=1.5: a whole number of at least 0 and at most 2147483647 wanted"),
    ("seed=true", "seed=true: a whole number"),
    ("precision=float16", "precision='float16': no such choice"),
    ("collector.push_every=0", "collector.push_every=0: a whole number of at least 1 wanted"),
    ("replay.capacity=null", "replay.capacity=null: a whole number of at least 1 wanted"),
    ("replay.capacity=[[0,100]]", "replay.capacity=[[0, 100]]: a whole number, or stages"),
    ("replay.learning_starts=400000", "replay.learning_starts=400000: replay.capacity=300000 never holds so many"),
    ("replay.storage=memry", "replay.storage='memry': no such choice; did you mean memory?"),
    ("learner=abc", "learner='abc': settings of its own belong there"),
]


@pytest.mark.parametrize(("override", "message"), WRONG, ids=[override for override, _ in WRONG])
def test_a_wrong_setting_is_named_before_anything_is_made(override: str, message: str, tmp_path: Path) -> None:
    name, _, value = override.partition("=")
    settings = {**compose_settings(), "learner": value} if name == "learner" else compose_settings([override])
    with pytest.raises(ConfigError) as caught:
        train(settings, folder=tmp_path / "run")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


CARTPOLE = ["experiment=cartpole_iqn", "precision=float32", "objective.network.hidden_sizes=[8,8]"]
LATER = [
    ("device=null", "device=None: auto, cpu or cuda wanted"),
    ("device=meta", "device='meta': auto, cpu or cuda wanted"),
    ("collector.kind=multi", "collector: collector.kind='multi': no such kind; did you mean multi_sync?"),
    ("replay.mini_race=abc", "replay.mini_race='abc': null, or settings such as"),
    ("replay.mini_race={num_action: 140}", "replay.mini_race: "),
    ("replay.held_out_share=1", "replay: share=1: lies in [0, 1)"),
    ("learner.compile=abc", "learner: compile='abc': true, false or one of"),
    ("estimator.name=munch", "estimator.name='munch': Unknown value estimator alias"),
    ("exploration.epsilon=2", "exploration: epsilon=2.0: a probability lies in [0, 1]"),
    ("env.name=CartPool-v1", "env: name='CartPool-v1': gymnasium cannot make it"),
    ("env.name=5", "env.name=5: a text wanted"),
    ("env.num_envs=0", "env.num_envs=0: at least 1 is needed"),
    ("env.num_envs=2.5", "env.num_envs=2.5: a whole number wanted"),
    ("optimizer.eps=abc", "optimizer.eps='abc': a number"),
    ("objective.loss.kappa=abc", "objective.loss.kappa='abc': a number"),
]


def build_all(settings: dict[str, Any]) -> None:
    device = choose_device(settings["device"])
    build_training(settings, task=build_task(settings), precision="float32", device=device, log=print)


@pytest.mark.parametrize(("override", "message"), LATER, ids=[override for override, _ in LATER])
def test_a_part_that_refuses_its_settings_is_named(override: str, message: str) -> None:
    settings = compose_settings([*CARTPOLE, override])
    with pytest.raises(ConfigError) as caught:
        build_all(settings)
    assert str(caught.value).startswith(message)


def test_what_stands_for_a_part_must_be_a_mapping() -> None:
    with pytest.raises(ConfigError, match=r"^soft_reset='abc': a mapping with _target_"):
        construct("abc", name="soft_reset")  # type: ignore[arg-type]


def test_whole_numbers_may_be_written_as_powers() -> None:
    settings = checked(compose_settings(["total_frames=1e6", "replay.capacity=2e5"]))
    assert [type(settings["total_frames"]), settings["replay"]["capacity"]] == [int, 200_000]


def test_every_setting_that_is_checked_exists() -> None:
    settings = compose_settings(["replay=prioritized"])
    for name in CHECKS:
        node = settings
        for part in name.split("."):
            assert part in node, name
            node = node[part]


@pytest.mark.parametrize(("given", "found"), [(0, "0"), ("runs/a", "runs/a"), (Path("a"), "a"), (None, None)])
def test_a_run_folder_may_be_named_by_a_number(given: object, found: str | None) -> None:
    assert checked({"resume": given}) == {"resume": found}


@pytest.mark.parametrize("given", [True, "", [1]])
def test_what_is_no_folder(given: object) -> None:
    with pytest.raises(ConfigError, match=r"^resume=.*: a run folder, or null, wanted"):
        checked({"resume": given})
