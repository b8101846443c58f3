"""Random shift and float normaliser, in environments and replay buffers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import Compose, SerialEnv, TransformedEnv
from torchrl.envs.utils import check_env_specs

from tests.envs.countdown import Countdown
from tm_torchrl.envs.transforms import FloatNormalizer, RandomShift
from tm_torchrl.envs.transforms.random_shift import shift_images


def make_transform(name: str) -> torch.nn.Module:
    return {
        "shift": lambda: RandomShift(2, seed=0),
        "floats": lambda: FloatNormalizer([1.0, 0.0], [2.0, 1.0]),
        "all": lambda: Compose(*map(make_transform, ("shift", "floats"))),
    }[name]()


class MakeEnv:
    """An environment with a transform; a class, so that it can be sent to a worker process."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> TransformedEnv:
        transform = pickle.loads(pickle.dumps(make_transform(self.name)))  # as worker processes get it
        return TransformedEnv(Countdown((4,), is_batched=False), transform)


def numbered(batch: int, *, height: int = 5, width: int = 6) -> torch.Tensor:
    return (
        torch.arange(batch * height * width, dtype=torch.int64)
        .remainder(251)
        .to(torch.uint8)
        .view(batch, 1, height, width)
    )


def transitions(num: int) -> TensorDict:
    images = numbered(num)
    return TensorDict(
        {
            "pixels": images,
            "observation": torch.ones(num, 2),
            "next": {"pixels": images.clone(), "observation": torch.ones(num, 2), "reward": torch.full((num, 1), 4.0)},
        },
        [num],
    )


@pytest.mark.parametrize("name", ["shift", "floats", "all"])
@pytest.mark.parametrize("kind", ["single", "batched", "serial", "over serial"])
def test_environment_specs_hold(name: str, kind: str) -> None:
    env = {
        "single": lambda: MakeEnv(name)(),
        "batched": lambda: TransformedEnv(Countdown((2, 5)), make_transform(name)),
        "serial": lambda: SerialEnv(2, MakeEnv(name)),
        "over serial": lambda: TransformedEnv(
            SerialEnv(2, lambda: Countdown((4,), is_batched=False)), make_transform(name)
        ),
    }[kind]()
    check_env_specs(env)


# ---- RandomShift: image [[1, 2, 3], [4, 5, 6]] with a border of 1 is
#      1 1 2 3 3
#      1 1 2 3 3
#      4 4 5 6 6
#      4 4 5 6 6
@pytest.mark.parametrize(
    ("offset", "cut"),
    [
        ((1, 1), [[1, 2, 3], [4, 5, 6]]),
        ((0, 0), [[1, 1, 2], [1, 1, 2]]),
        ((0, 2), [[2, 3, 3], [2, 3, 3]]),
        ((2, 0), [[4, 4, 5], [4, 4, 5]]),
        ((2, 2), [[5, 6, 6], [5, 6, 6]]),
    ],
)
def test_shift_cuts_the_padded_image(offset: tuple[int, int], cut: list[list[int]]) -> None:
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8)
    shifted = shift_images(image, torch.tensor([offset]), pad=1)
    assert shifted.dtype == torch.uint8
    assert shifted.tolist() == [[cut]]


def test_shift_is_padding_and_cutting_for_every_sample_and_channel() -> None:
    images = torch.randint(0, 256, (3, 4, 2, 7, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    offset = torch.randint(0, 7, (3, 4, 2), generator=torch.Generator().manual_seed(2))
    shifted = shift_images(images, offset, pad=3)
    for i in range(3):
        for j in range(4):
            top, left = offset[i, j].tolist()
            padded = torch.nn.functional.pad(images[i, j].float(), (3, 3, 3, 3), mode="replicate")
            assert torch.equal(shifted[i, j].float(), padded[:, top : top + 7, left : left + 5])


def test_shift_of_no_images() -> None:
    assert shift_images(torch.zeros(0, 1, 4, 4), torch.zeros(0, 2, dtype=torch.int64), pad=2).shape == (0, 1, 4, 4)


def shifts_of(before: torch.Tensor, after: torch.Tensor, pad: int) -> list[tuple[int, int]]:
    """Which offset made each image."""
    offsets = [(top, left) for top in range(2 * pad + 1) for left in range(2 * pad + 1)]
    found = []
    for old, new in zip(before, after, strict=True):
        fits = [o for o in offsets if torch.equal(shift_images(old[None], torch.tensor([o]), pad=pad)[0], new)]
        assert len(fits) == 1
        found.append(fits[0])
    return found


def test_offsets_are_per_sample_or_for_the_batch_and_for_each_end_or_both() -> None:
    batch = transitions(40)
    for is_batch in (False, True):
        for is_next in (False, True):
            shift = RandomShift(1, same_offset_for_batch=is_batch, same_offset_for_next=is_next, seed=3)
            out = shift(batch.clone())
            root = shifts_of(batch["pixels"], out["pixels"], 1)
            after = shifts_of(batch["next", "pixels"], out["next", "pixels"], 1)
            # 40 samples of 9 offsets: each turns up, unless the batch shares one.
            assert len(set(root)) == (1 if is_batch else 9)
            assert (root == after) is is_next


def test_shift_works_inside_a_replay_buffer_and_leaves_the_stored_images() -> None:
    buffer = ReplayBuffer(storage=LazyTensorStorage(16), batch_size=8, transform=RandomShift(1, seed=0))
    stored = transitions(16)
    buffer.extend(stored)
    sample = buffer.sample()
    assert sample["pixels"].dtype == torch.uint8 and sample["pixels"].shape == (8, 1, 5, 6)
    assert not torch.equal(sample["pixels"], sample["next", "pixels"])
    assert torch.equal(buffer._storage[:]["pixels"], stored["pixels"])


def test_same_seed_same_shifts_also_after_state_dict_pickle_and_copy() -> None:
    shift = RandomShift(2, seed=5)
    batch = transitions(8)
    first = shift(batch.clone())
    assert torch.equal(RandomShift(2, seed=5)(batch.clone())["pixels"], first["pixels"])
    assert not torch.equal(RandomShift(2, seed=6)(batch.clone())["pixels"], first["pixels"])
    resumed = RandomShift(2, seed=9)
    resumed.load_state_dict(shift.state_dict())
    others = [resumed, pickle.loads(pickle.dumps(shift)), copy.deepcopy(shift)]
    expected = shift(batch.clone())["pixels"]
    assert not torch.equal(expected, first["pixels"])
    for other in others:
        assert torch.equal(other(batch.clone())["pixels"], expected)


@pytest.mark.gpu
def test_shift_is_the_same_on_cuda() -> None:
    batch = transitions(64)
    assert torch.equal(RandomShift(2, seed=5)(batch.cuda())["pixels"].cpu(), RandomShift(2, seed=5)(batch)["pixels"])


def test_shift_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="pad=0"):
        RandomShift(0)
    with pytest.raises(KeyError, match=r"no 'image' .*pixels"):
        RandomShift(in_keys=["image"])(transitions(2))
    with pytest.raises(KeyError, match=r"no 'image' .*observation, pixels"):
        TransformedEnv(Countdown(), RandomShift(in_keys=["image"])).observation_spec  # noqa: B018
    with pytest.raises(ValueError, match=r"'observation' has shape \(1, 2\)"):
        TransformedEnv(Countdown(), RandomShift(in_keys=["observation"])).observation_spec  # noqa: B018
    with pytest.raises(ValueError, match=r"'observation' has shape \(2, 2\)"):
        RandomShift(in_keys=["observation"])(transitions(2))


# ---- FloatNormalizer
def test_floats_are_normalised_in_an_environment_and_in_a_buffer() -> None:
    env = TransformedEnv(Countdown((9, 9)), FloatNormalizer([1.0, 0.0], [2.0, 0.5]))
    data = env.rand_step(env.reset())
    assert data["observation"].tolist() == [[-0.5, 0.0], [-0.5, 2.0]]  # ([0, i] - [1, 0]) / [2, 0.5]
    assert data["next", "observation"].tolist() == [[0.0, 0.0], [0.0, 2.0]]
    normalizer = FloatNormalizer(0.5, 0.25, in_keys=["observation", ("next", "observation")])
    buffer = ReplayBuffer(storage=LazyTensorStorage(2), batch_size=2, transform=normalizer)
    buffer.extend(transitions(2))
    assert buffer.sample()["next", "observation"].tolist() == [[2.0, 2.0]] * 2  # (1 - 0.5) / 0.25


def test_float_normalizer_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"std .*entries \[1\]"):
        FloatNormalizer([0.0, 0.0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"mean has shape \(2,\), std \(3,\)"):
        FloatNormalizer([0.0, 0.0], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="mean must be finite"):
        FloatNormalizer(float("nan"), 1.0)
    with pytest.raises(ValueError, match=r"'observation' has shape \(1, 2\).*3 entries"):
        TransformedEnv(Countdown(), FloatNormalizer([0.0] * 3, 1.0)).observation_spec  # noqa: B018
    with pytest.raises(KeyError, match="no 'floats'"):
        TransformedEnv(Countdown(), FloatNormalizer(0.0, 1.0, in_keys=["floats"])).observation_spec  # noqa: B018
