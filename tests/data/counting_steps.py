"""Steps whose observations count, buffers of them, and comparisons of two such buffers."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from tm_torchrl.data import MiniRace, NStep, make_replay_buffer

LANES = 2


def steps(num: int, *, start: int = 0, lanes: int = LANES, episode_steps: int = 13) -> TensorDict:
    """Steps of lanes whose observations and images count; a batch from ``start + num`` continues this one."""
    count = torch.arange(start, start + num + 1, dtype=torch.float32).expand(lanes, num + 1).unsqueeze(-1)
    count = count + 1000 * torch.arange(lanes).view(-1, 1, 1)
    pixels = (count.unsqueeze(-1).unsqueeze(-1) + torch.arange(16).view(4, 4)).to(torch.int64).to(torch.uint8)
    done = (count[:, 1:] % episode_steps == 0).view(lanes, num, 1)
    following = {"reward": count[:, 1:] / 7, "done": done, "terminated": done, "truncated": torch.zeros_like(done)}
    return TensorDict(
        {
            "observation": count[:, :-1],
            "pixels": pixels[:, :-1],
            "action": torch.arange(num).expand(lanes, num) % 5,
            "next": {"observation": count[:, 1:], "pixels": pixels[:, 1:], **following},
        },
        [lanes, num],
    )


def build(*, storage: str = "memory", capacity: int = 50, prioritized: bool = True, race: bool = False, **options):
    transforms = [NStep(3, gamma=0.99, frame_ids=storage == "frames")]
    transforms += [MiniRace(seed=3, clock_index=0)] if race else []
    sampler = "prioritized" if prioritized else "uniform"
    settings = {"batch_size": 8, "sampler": sampler, "transforms": transforms, "seed": 0, **options}
    return make_replay_buffer(capacity=capacity, storage=storage, **settings)


def learn(buffer) -> None:
    """One sample, and new priorities if there are any."""
    sample = buffer.sample()
    if hasattr(buffer, "update_tensordict_priority"):
        buffer.update_tensordict_priority(sample.set("td_error", torch.rand(8, 1, generator=torch.manual_seed(5))))


def assert_equal_samples(one, two, *, num: int = 3) -> None:
    for _ in range(num):
        first, second = one.sample(), two.sample()
        assert set(first.keys(True, True)) == set(second.keys(True, True))
        assert all(torch.equal(first[key], second[key]) for key in first.keys(True, True))


def assert_goes_on_equally(one, two, *, start: int) -> None:
    assert len(one) == len(two)
    assert_equal_rows(one, two)
    for extra in (0, 7):
        assert_equal_samples(one, two)
        for buffer in (one, two):
            buffer.extend(steps(7, start=start + extra))
            learn(buffer)
    assert_equal_samples(one, two)


def assert_equal_rows(one, two) -> None:
    first, second = one.storage.get(slice(None)), two.storage.get(slice(None))
    assert all(torch.equal(first[key], second[key]) for key in first.keys(True, True))
