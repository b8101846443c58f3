"""Presets of ``configs/experiment``: each builds, changes what it says, and makes an update; none trains."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.data import PrioritizedSampler, Sequences
from tm_torchrl.data.replay import Replay
from tm_torchrl.envs.transforms import RandomShift
from tm_torchrl.modules import (
    GRU,
    FiLM,
    FractionProposal,
    ImpalaEncoder,
    MonotoneHead,
    NoisyLinear,
    PixelEncoder,
    ResidualTrunk,
    SpectralConv2d,
)
from tm_torchrl.objectives.value_estimators import MunchausenEstimator
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.settings.folder import config_folder
from tm_torchrl.settings.tree import differences
from tm_torchrl.tasks.task import make_task

FILES = sorted((config_folder() / "experiment").glob("*.yaml"))
BASELINE = "iqn_pixels"
GYMNASIUM = (
    "r2d2_iqn",
    "cartpole_iqn",
    "cartpole_blocks",
    "cartpole_ppo",
    "cartpole_grpo",
    "cartpole_dpo",
    "lunarlander_iqn",
)
CHANGES = {  # the only settings that an experiment may change against the baseline
    "exp_enable_augmentation_v1": ["replay.augmentation"],
    "exp_enable_per_v1": ["replay.prioritized"],
    "exp_munchausen_iqn_v1": ["estimator"],
    "exp_impala_encoder_v1": ["objective.network.image"],
    "exp_spectral_norm_v1": ["objective.network.image.spectral_norm"],
    "exp_layer_norm_v1": ["objective.network.layer_norm"],
    "exp_noisy_heads_v1": ["exploration", "objective.network.linear"],
    "exp_residual_trunk_v1": ["objective.network.trunk"],
    "exp_film_conditioning_v1": ["objective.network.conditioning"],
    "exp_multi_action_mixer_v1": ["env.action_block", "env.num_previous_actions", "objective.network.mixer"],
    "exp_nq_network_v1": ["objective"],
    "exp_fqf_v1": ["objective"],
    "exp_gru_latent_v1": ["objective.network.core", "replay"],
}
LAYERS = {  # how many of them
    BASELINE: {PixelEncoder: 1, SpectralConv2d: 0, nn.LayerNorm: 0, NoisyLinear: 0},
    "exp_impala_encoder_v1": {ImpalaEncoder: 1, PixelEncoder: 0, nn.AdaptiveMaxPool2d: 1},
    "exp_spectral_norm_v1": {SpectralConv2d: 4},
    "exp_layer_norm_v1": {nn.LayerNorm: 2 + 2},  # floats, two streams
    "exp_noisy_heads_v1": {NoisyLinear: 2},  # the advantages
    "exp_residual_trunk_v1": {ResidualTrunk: 1},
    "exp_film_conditioning_v1": {FiLM: 1},
    "exp_nq_network_v1": {MonotoneHead: 1},
    "exp_fqf_v1": {FractionProposal: 1},
    "exp_gru_latent_v1": {GRU: 1},
}
SLOW = ("btr_paper", "exp_impala_encoder_v1")  # IMPALA at width 2
POLICIES = ("cartpole_ppo", "cartpole_grpo", "cartpole_dpo", "fast_laps")  # which tests/algorithms trains
BUILDABLE = [
    pytest.param(path.stem, marks=pytest.mark.slow) if path.stem in SLOW else path.stem
    for path in FILES
    if path.stem not in POLICIES
]
SMALL = ["env.num_envs=4", "replay.batch_size=8", "replay.capacity=64", "replay.learning_starts=8"]


@functools.cache
def composed(name: str) -> dict[str, Any]:
    return compose_settings([f"experiment={name}"])


@dataclass
class Built:
    """All of an experiment that an update needs."""

    settings: dict[str, Any]
    replay: Replay
    learner: Learner
    network: nn.Module

    def count(self, kind: type) -> int:
        return sum(type(module) is kind for module in self.network.modules())


def build(name: str) -> Built:
    """The parts, and four cars' first eight steps in the replay, or 40 where it is one of sequences."""
    torch.manual_seed(0)
    settings = compose_settings([f"experiment={name}", *SMALL])
    if settings["env"]["_target_"].endswith("TrackManiaTask"):
        settings["env"]["track"] = "oval"
    task = make_task(settings)
    algorithm: Any = make_algorithm({**settings, "precision": "float32"}, task)
    for schedule, apply in algorithm.schedules().values():
        apply(schedule(0))
    env = task.make_env(num_envs=4)
    with torch.no_grad():
        num_steps = 40 if isinstance(algorithm.memory, Sequences) else 8
        steps = env.rollout(num_steps, algorithm.policy, break_when_any_done=False)
    env.close()
    steps["collector", "traj_ids"] = torch.arange(4).unsqueeze(1).expand(4, num_steps)  # collectors write them
    algorithm.memory.extend(steps)
    return Built(settings, algorithm.memory, algorithm.learner, algorithm.actor.quantile_module.network)


def moved(before: dict[str, Tensor], network: nn.Module) -> list[str]:
    return [name for name, value in network.named_parameters() if not torch.equal(before[name], value)]


@pytest.mark.parametrize("name", BUILDABLE)
def test_an_update_moves_every_layer(name: str) -> None:
    if name == "lunarlander_iqn" and importlib.util.find_spec("Box2D") is None:
        pytest.skip("needs box2d")
    built = build(name)
    assert {kind: built.count(kind) for kind in LAYERS.get(name, {})} == LAYERS.get(name, {})
    before = {name: value.detach().clone() for name, value in built.network.named_parameters()}
    batch = built.replay.sample()
    losses = built.learner.update(batch)
    assert built.learner.num_updates == 1
    assert built.learner.num_skipped == 0
    assert float(losses["loss"]) > 0
    still = before.keys() - set(moved(before, built.network))
    assert not {name for name in still if name.endswith("weight")}
    built.replay.seen(batch)


@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in GYMNASIUM], ids=lambda path: path.stem)
def test_heads_say_what_they_ask(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert head[0] == "# @package _global_"
    assert head[-1] == f"# Command: python scripts/train_iqn.py experiment={path.stem}"
    assert any(line.startswith("# Question: ") for line in head)
    assert any(line.startswith("# Numbers: ") for line in head)


def test_all_experiments_are_known() -> None:
    assert sorted(CHANGES) == [path.stem for path in FILES if path.stem.startswith("exp_")]


@pytest.mark.parametrize("name", CHANGES)
def test_an_experiment_changes_one_thing(name: str) -> None:
    changed = [line.split(": ")[0] for line in differences(composed(name), composed(BASELINE))]
    assert changed
    prefixes = CHANGES[name]
    stray = [key for key in changed if not any(f"{key}.".startswith(f"{prefix}.") for prefix in prefixes)]
    assert stray == []


def test_btr_on_a_cpu_has_all_but_noisy_layers() -> None:
    built = build("btr_cpu")
    (encoder,) = [module for module in built.network.modules() if isinstance(module, ImpalaEncoder)]
    # 32 channels at width 1, 4 x 4 left of each.
    assert encoder.num_features == 32 * 4 * 4
    assert built.count(nn.AdaptiveMaxPool2d) == 1
    assert built.count(SpectralConv2d) == 3 * 2 * 2  # stages, blocks, convolutions
    assert built.count(nn.LayerNorm) == 4
    assert built.count(NoisyLinear) == 0
    assert isinstance(built.learner.loss.value_estimator, MunchausenEstimator)
    assert isinstance(built.replay.buffer.sampler, PrioritizedSampler)
    assert built.replay.buffer.sampler.alpha == 0.2


def test_btr_has_all_its_parts_at_the_size_of_a_cpu() -> None:
    built = build("btr")
    (encoder,) = [module for module in built.network.modules() if isinstance(module, ImpalaEncoder)]
    assert encoder.num_features == 32 * 4 * 4 and encoder.layer_norm
    assert [module.std_init for module in built.network.modules() if isinstance(module, NoisyLinear)] == [0.02, 0.02]
    assert built.count(SpectralConv2d) == 3 * 2 * 2 and built.count(nn.LayerNorm) == 4
    pixels = torch.randint(256, (3, 1, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(encoder(pixels).square().mean(-1), torch.ones(3), atol=1e-3, rtol=0)


def test_the_augmentation_shifts_what_is_sampled_and_not_what_is_stored() -> None:
    built = build("exp_enable_augmentation_v1")
    shifts = [part for part in built.replay.buffer._transform if isinstance(part, RandomShift)]
    assert len(shifts) == 1
    assert (shifts[0].pad, shifts[0].same_offset_for_batch, shifts[0].same_offset_for_next) == (2, True, True)
    stored = built.replay.buffer.storage[:]["pixels"].clone()
    sampled = torch.cat([built.replay.sample()["pixels"] for _ in range(8)])
    assert sampled.shape[1:] == stored.shape[1:] and sampled.dtype == torch.uint8
    known = {image.numpy().tobytes() for image in stored}
    assert any(image.numpy().tobytes() not in known for image in sampled)
    torch.testing.assert_close(built.replay.buffer.storage[:]["pixels"], stored)


def test_an_augmentation_needs_images() -> None:
    settings = compose_settings(
        ["env.track=oval", "replay.augmentation={_target_: tm_torchrl.envs.transforms.RandomShift, pad: 4}"]
    )
    with pytest.raises(ConfigError, match=r"^replay\.augmentation="):
        make_algorithm(settings, make_task(settings))
