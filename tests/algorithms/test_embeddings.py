"""A replay that stores what a frozen vision part makes of images: the same learning, and refusals by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.data.episodes import make_lanes, to_batch
from tests.modules.fusion.test_fusion import CNN, FUSIONS, KEYS, VIT
from tests.modules.test_freezing import learner_of
from tests.modules.test_matrix import small
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.data import DemonstrationShare, Replay, ReplayLog, Sequences, ShardedReplay
from tm_torchrl.envs.transforms import RandomShift
from tm_torchrl.modules import MLPIQNetwork, PixelEncoder
from tm_torchrl.modules.freezing import frozen_vision
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.tasks.task import make_task

EDGE = 16


def make_replay(storage: str, embed: Any = None, **options: Any) -> Replay:
    arguments: dict[str, Any] = {"capacity": 50, "batch_size": 8, "uses_per_transition": 1.0, "gamma": 0.5}
    return Replay(storage=storage, embed=embed, stored_keys=KEYS, num_steps=3, **{**arguments, **options})


def filled(storage: str, embed: Any = None) -> Replay:
    """After batches of 1 to 9 steps of three lanes; the last ones take the places of the first."""
    replay, lanes, start = make_replay(storage, embed), make_lanes(0, num_lanes=3, num_steps=25), 0
    for length in (1, 9, 2, 8, 5):
        steps = to_batch([lane[start : start + length] for lane in lanes], image_size=EDGE)
        steps["action"] %= 3
        steps["observation"], steps["next", "observation"] = (
            part["observation"] / 100 for part in (steps, steps["next"])
        )
        replay.extend(steps)
        start += length
    return replay


@pytest.mark.parametrize(
    ("fusion", "image", "shape"),
    [("none", CNN, (128,)), ("post_concat-mlp", VIT, (8,)), ("post_concat", CNN, (128,)), ("unified", VIT, (4, 8))],
)
def test_it_learns_as_from_frames(fusion: str, image: Any, shape: tuple[int, ...]) -> None:
    found = []
    for storage in ("frames", "embeddings"):
        parts = {"image": image, "image_shape": (1, EDGE, EDGE), "fusion": FUSIONS[fusion], "frozen": ["vision"]}
        network = small("iqn", num_inputs=2, **parts)
        learner, replay = learner_of(network), filled(storage, frozen_vision(network))
        batch = replay.sample()
        assert batch["pixels"].shape[1:] == batch["next", "pixels"].shape[1:]
        assert batch["pixels"].shape[1:] == (shape if storage == "embeddings" else (1, EDGE, EDGE))
        torch.manual_seed(0)
        losses = [learner.update(batch)["loss"] for _ in range(3)]
        weights = torch.cat([value.detach().flatten() for value in network.parameters()])
        found.append([torch.stack(losses), batch["td_error"], weights, torch.tensor(replay.buffer.storage.num_frames)])
    for of_frames, of_embeddings in zip(*found, strict=True):
        torch.testing.assert_close(of_embeddings, of_frames, rtol=1e-4, atol=1e-5)


def test_images_alone() -> None:
    network = small("iqn", num_inputs=None, image=CNN, image_shape=(1, EDGE, EDGE), frozen=["vision"])
    frames, embeddings = (filled(storage, frozen_vision(network)).sample() for storage in ("frames", "embeddings"))
    assert embeddings["pixels"].shape == (8, 128)
    for of_frames, of_embeddings in zip((frames, frames["next"]), (embeddings, embeddings["next"]), strict=True):
        expected = network.features(of_frames["pixels"])
        torch.testing.assert_close(network.features(of_embeddings["pixels"]), expected, rtol=1e-4, atol=1e-5)


def test_an_embedding_does_not_depend_on_the_others() -> None:
    """Torch computes one image alone in another way, and a resumed run meets images in other company."""
    torch.manual_seed(0)
    embed = frozen_vision(MLPIQNetwork(4, 2, image=PixelEncoder, image_shape=(1, 64, 64), frozen=["vision"]))
    images = torch.randint(256, (33, 1, 64, 64), dtype=torch.uint8)
    together = embed(images)
    assert together.shape == (33, 512)
    assert all(torch.equal(embed(images[i : i + 1])[0], together[i]) for i in (0, 5, 32))


def test_each_image_is_embedded_once() -> None:
    seen: list[Tensor] = []

    def embed(images: Tensor) -> Tensor:
        seen.append(images)
        return images.float().flatten(1).mean(1, keepdim=True)

    storage = filled("embeddings", embed).buffer.storage
    one_to_look_at, *stored = torch.cat(seen).unbind()
    assert torch.equal(one_to_look_at, stored[0])
    assert len(torch.stack(stored).unique(dim=0)) == len(stored) > storage.num_frames


def test_a_saved_replay_is_read_by_its_own_kind(tmp_path: Path) -> None:
    embed = partial(torch.flatten, start_dim=1)
    saved = filled("embeddings", lambda images: embed(images).float())
    ReplayLog(tmp_path).append(saved.buffer)
    other = make_replay("embeddings", lambda images: embed(images).float())
    ReplayLog(tmp_path).restore(other.buffer)
    assert torch.equal(other.buffer[:]["pixels"], saved.buffer[:]["pixels"])
    with pytest.raises(ValueError, match="storage='FrameStorage': the saved replay has storage='FrameStorage with emb"):
        ReplayLog(tmp_path).restore(make_replay("frames").buffer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_replay, r"storage='embeddings': .* objective\.network\.frozen=\[vision\]"),
        (
            partial(make_replay, embed=torch.flatten, augmentation=RandomShift(4)),
            "augmentation=RandomShift: .*'frames'",
        ),
        (
            partial(make_replay, embed=torch.flatten, demonstrations=DemonstrationShare("author", share=0.5)),
            "demonstrations: .*storage='frames'",
        ),
        (
            partial(Sequences, capacity=9, batch_size=1, uses_per_transition=1, length=2, gamma=0.5),
            "storage='embeddings': .*replay=uniform",
        ),
        (
            partial(ShardedReplay, num_shards=1, capacity=9, batch_size=1, uses_per_transition=1, gamma=0.5),
            "storage='embeddings': .*replay=uniform",
        ),
    ],
    ids=["learning", "augmentation", "demonstrations", "sequences", "sharded"],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(storage="embeddings")


def test_the_setting_needs_images() -> None:
    settings = compose_settings(["replay.storage=embeddings", "precision=float32", "env.track=oval"])
    with pytest.raises(ConfigError, match=r"replay.*storage='embeddings': needs images"):
        make_algorithm(settings, make_task(settings))
