"""The Hydra tree: every file composes, misspelt names are explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.folder import config_folder
from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.tree import complete_settings, compose_settings, run_name

FILES = sorted(config_folder().rglob("*.yaml"))
CHOICES = [
    f"{path.relative_to(config_folder()).parent.as_posix()}={path.stem}"
    for path in FILES
    if path.parent != config_folder()
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(config_folder()).as_posix())
def test_every_file_says_what_it_is_and_its_command(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#") and not line.startswith("# @package")]
    assert any("python scripts/train_" in line for line in head), "the first lines name the command"
    assert len(head[0]) > 15


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    settings = compose_settings([choice])
    assert settings["env"]["_target_"].startswith("tm_torchrl.tasks.")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", "sed=1: no such setting; did you mean seed?"),
        ("env.trak=oval", "env.trak=oval: no such setting; did you mean track?"),
        (
            "objective=iqnn",
            "objective=iqnn: no such choice; did you mean iqn? There are: autoencoder, dqn, fqf, iqn, nq, nq_sampled, "
            "policy, qrdqn, simclr, vae",
        ),
        ("objective.loss.kapa=1", "did you mean kappa?"),
        ("experiment=cartpole_iq", "did you mean cartpole_iqn?"),
        ("env.starts.zon=1", "did you mean zone?"),
        ("xyzzy=1", "xyzzy=1: no such setting; there are: "),
    ],
)
def test_misspelt_settings_name_the_nearest(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_settings([override])
    assert message in str(caught.value)


def test_an_experiment_gives_way_to_what_is_asked_for() -> None:
    settings = compose_settings(["experiment=cartpole_iqn", "replay.batch_size=32", "estimator=double"])
    assert settings["env"]["name"] == "CartPole-v1"
    assert settings["replay"]["batch_size"] == 32
    assert settings["estimator"]["_target_"].endswith("DoubleEstimator")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "hillside"),
        (["env.track=oval"], "oval"),
        (["env.track=my/own track.npz"], "own-track"),
        (["env.tracks=[oval,ring]"], "2-tracks"),
        (["env=gym", "env.name=Acrobot-v1"], "Acrobot-v1"),
        (["name=first try"], "first-try"),
    ],
)
def test_run_names(overrides: list[str], name: str) -> None:
    assert run_name(compose_settings(overrides)) == name


def test_nearest_name_lists_what_there_is() -> None:
    assert nearest_name("gold", ["silver", "golden"]) == "; did you mean golden? There are: golden, silver"


def test_a_presets_settings_of_another_choice_fall_away() -> None:
    """cartpole_iqn sets a temperature and a tau, which double targets and hard updates do not have."""
    settings = compose_settings(["experiment=cartpole_iqn", "estimator=double", "target_update=hard"])
    assert settings["estimator"] == {"_target_": "tm_torchrl.objectives.DoubleEstimator", "_partial_": True}
    assert settings["target_update"] == {
        "_target_": "tm_torchrl.objectives.HardUpdate", "_partial_": True, "period": 500,
    }  # fmt: skip
    assert settings["env"]["name"] == "CartPole-v1"
    kept = compose_settings(["experiment=cartpole_iqn", "estimator=soft", "estimator.temperature=0.5"])
    assert kept["estimator"]["temperature"] == 0.5
    assert compose_settings(["experiment=cartpole_iqn", "estimator=soft"])["estimator"]["temperature"] == 0.03


def test_a_presets_algorithm_may_be_changed_beside_another_choice() -> None:
    settings = compose_settings(["experiment=cartpole_ppo", "rollouts.num_epochs=3", "collector=multi_sync"])
    assert settings["rollouts"]["num_epochs"] == 3 and settings["collector"]["kind"] == "multi_sync"


@pytest.fixture(scope="module")
def run_of_ppo(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "ppo"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(compose_settings(["experiment=fast_laps"])), encoding="utf-8")
    return f"resume={folder.as_posix()}"


def test_a_resumed_run_takes_settings_of_its_own_algorithm(run_of_ppo: str) -> None:
    """The default algorithm has neither."""
    words = ["algorithm.entropy_coefficient=0.25", "rollouts.minibatch_size=512", "gamma=0.9"]
    found = complete_settings([run_of_ppo, *words])
    assert (found["algorithm"]["entropy_coefficient"], found["rollouts"]["minibatch_size"]) == (0.25, 512)
    assert (found["gamma"], found["env"]["num_envs"], found["rollouts"]["frames_per_update"]) == (0.9, 256, 16_384)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollouts.minibatch=1", "rollouts.minibatch=1: the run has no such setting; did you mean minibatch_size?"),
        ("replay.capacity=1", "replay.capacity=1: the run has no such setting"),  # the default algorithm has it
        ("sed=1", "sed=1: no such setting; did you mean seed?"),
        ("rollouts.minibatch_size=[1", "rollouts.minibatch_size=[1: cannot be parsed"),
    ],
)
def test_settings_that_a_resumed_run_lacks_are_named(run_of_ppo: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        complete_settings([run_of_ppo, override])
