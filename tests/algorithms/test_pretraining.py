"""Visual pretraining in the loop: it learns from recorded images, resumes bit for bit, and starts other runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.data.demonstrations import made_laps
from tests.trainers.test_training import numbers, quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.modules.freezing import NetworkOfParts, modules_of_part
from tm_torchrl.record.report import write_report
from tm_torchrl.record.run_folder import read_evaluations, read_metrics
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task

IMAGE = ["network=classic", "objective.network.image.pooling=global_average"]
SMALL = [
    "algorithm=pretraining",
    *IMAGE,
    "images.batch_size=32",
    "precision=float32",
    "env.held_out_share=0.25",
    "collector.frames_per_batch=64",
    "log.tensorboard=false",
    "log.every_frames=64",
    "evaluation.every_frames=128",
    "evaluation.num=4",
]
EVERY_OBJECTIVE = {
    "autoencoder": ["objective.loss.width=2"],
    "vae": ["objective.loss.width=2"],
    "simclr": ["objective.positive_steps=3"],
}


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four laps of 30 frames of even brightness."""
    folder = tmp_path_factory.mktemp("laps") / "oval"
    made_laps.write(folder, [[30, 30], [30, 30]], image_size=64)
    return folder


@pytest.fixture(scope="module")
def run(laps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an autoencoder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    quiet([*SMALL, "objective.loss.width=2", f"data='{laps}'", "total_frames=256"], folder)
    return folder


def algorithm_of(*settings: str, log: Any = print) -> Any:
    composed = compose_settings(list(settings))
    return make_algorithm(composed, make_task(composed), log=log)


def network_of(algorithm: Any) -> Any:
    return next(each for each in algorithm.actor.modules() if isinstance(each, NetworkOfParts))


def test_it_learns_and_writes_what_it_has_learnt(run: Path) -> None:
    first, *_, last = read_metrics(run)
    assert last["train/updates"] == 256 // 32
    assert last["train/test_loss"] < first["train/test_loss"]
    row = read_evaluations(run)[-1]
    assert (
        row["task"] == "frames of oval" and {"r2_mean", "r2_speed", "r2_lateral_offset", "r2_curvature"} <= row.keys()
    )
    with pytest.importorskip("safetensors").safe_open(run / "encoder.safetensors", framework="pt") as file:
        facts = file.metadata()
        assert set(file.keys()) == {
            f"encoder.pixels.layers.{n}.{kind}" for n in (0, 2, 4, 6) for kind in ("weight", "bias")
        }
    assert facts["encoder"] == "PixelEncoder" and facts["objective"] == "AutoencoderLoss"
    assert json.loads(facts["image_shape"]) == [1, 64, 64] and list(json.loads(facts["tracks"])) == ["oval"]
    with Image.open(run / "pretraining.png") as picture:
        assert picture.size[0] > 8 * 128 and picture.size[1] > 2 * 128


def test_its_report_and_its_evaluation(run: Path) -> None:
    page = write_report(run).read_text()
    assert "linear probe" in page and "data:image/png;base64" in page
    assert page.index("img-src data:") < page.index("data:image/png")
    agent = load_agent(run)
    rows = agent.evaluate(laps=4)
    assert rows[0]["r2_speed"] == pytest.approx(max(row["r2_speed"] for row in read_evaluations(run)))


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE)
def test_it_resumes_bit_for_bit(laps: Path, tmp_path: Path, objective: str) -> None:
    settings = [*SMALL, f"objective={objective}", *EVERY_OBJECTIVE[objective], f"data='{laps}'"]
    quiet([*settings, "total_frames=256"], tmp_path / "whole")
    quiet([*settings, "total_frames=128"], tmp_path / "parts")
    quiet(["total_frames=256", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert (tmp_path / "parts" / "pretraining.png").exists()


CONSUMERS = {
    "IQN": [],
    "IQN without floats": ["env.floats=false"],
    "PPO": ["algorithm=ppo"],
    "cloning": ["algorithm=cloning"],
    "fused": ["+objective.network.fusion=post_concat"],
}


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("source", ["folder", "file"])
def test_other_runs_start_from_it_frozen_or_not(run: Path, laps: Path, consumer: str, source: str) -> None:
    path = run if source == "folder" else run / "encoder.safetensors"
    own = [each.replace("+", "") for each in CONSUMERS[consumer]]
    own += [f"data='{laps}'", "demonstrations.batch_size=32"] if consumer == "cloning" else []
    said: list[str] = []
    algorithm = algorithm_of(
        *IMAGE,
        "env.track=oval",
        "env.num_envs=2",
        "env.pixels=true",
        "objective.network.hidden_sizes=[8]",
        "objective.network.head_size=8",
        "objective.network.frozen=[vision]",
        "precision=float32",
        f"warm_start={{source: '{path}'}}",
        *own,
        log=said.append,
    )
    (vision,) = [line for line in said if "vision" in line]
    assert "vision: 8 tensors loaded from" in vision and "absent" not in vision
    assert all("not loaded" in line for line in said if line.startswith("warm start") and "vision" not in line)
    taken = load_agent(run).actor.network.encoder.get_submodule("pixels").state_dict()
    (part,) = modules_of_part(network_of(algorithm), "vision").values()
    assert all(torch.equal(value, taken[name]) for name, value in part.state_dict().items())
    assert not any(each.requires_grad for each in part.parameters())


def test_it_goes_on_from_another_pretraining(run: Path, laps: Path) -> None:
    said: list[str] = []
    algorithm_of(*SMALL, f"data='{laps}'", f"warm_start={{source: '{run}'}}", log=said.append)
    assert any("vision: 8 tensors loaded from network.encoder.pixels" in line for line in said)


def test_another_encoder_is_refused(run: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"encoder\.pixels\.layers\.0\.weight is \[16, 4, 4, 4\] here, \[16, 1, 4, 4\]"
    ):
        algorithm_of(
            *IMAGE,
            "env.track=oval",
            "env.pixels=true",
            "transforms=stack_frames",
            "precision=float32",
            f"warm_start={{source: '{run}'}}",
        )


@pytest.mark.parametrize("network", ["impala", "vit", "btr", "small_image", "post_concat", "unified"])
def test_any_image_encoder(laps: Path, network: str) -> None:
    settings = [each for each in SMALL if each not in IMAGE]
    algorithm = algorithm_of(*settings, f"network={network}", "transforms=stack_frames", f"data='{laps}'")
    algorithm.memory.batch_size = 2
    losses = algorithm.learner.update(algorithm.memory.batch_of(algorithm.memory.train_frames[:2]))
    assert bool(losses["loss"].isfinite())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data=null", "data=null: .*tm-torchrl record"),
        ("data=nowhere", "data=nowhere: does not exist"),
        ("env.held_out_share=0", "env.data=.*held_out_share than 0"),
        ("env=trackmania", "env.data: TrackManiaTask has no such parameter"),
        ("network=mlp", "objective.network.image=null"),
        ("objective=iqn", "needs autoencoder, vae or simclr"),
        ("objective.loss.width=0", "width=0"),
        ("images.batch_size=999", "images.batch_size=999"),
        ("precision=half", "precision='half'"),
        ("learning_rate=-1", "learning_rate=-1"),
    ],
)
def test_wrong_settings_are_one_line(laps: Path, tmp_path: Path, override: str, message: str) -> None:
    settings = [each for each in SMALL if not override.startswith(("network", "env=")) or each not in IMAGE]
    settings = [each for each in settings if not (override == "env=trackmania" and each.startswith("env."))]
    with pytest.raises(ConfigError, match=message) as caught:
        quiet([*settings, f"data='{laps}'", override], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_its_objectives_are_for_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objective\.network: .*another algorithm"):
        quiet(["objective=autoencoder", "env.track=oval"], tmp_path / "run")
