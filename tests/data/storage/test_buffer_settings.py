"""Buffers of different settings are told apart, by the name of the setting."""

from __future__ import annotations

import re

import pytest
from tensordict import TensorDict
from torchrl.data import TensorDictReplayBuffer

from tests.data.counting_steps import steps
from tm_torchrl.data import FrameStorage, NStep, PrioritizedSampler, make_replay_buffer
from tm_torchrl.data.storage.buffer_settings import check_settings, settings_of


def build(*, n: int | None = 3, gamma: float = 0.99, capacity: int = 50, **options: object) -> TensorDictReplayBuffer:
    exponents = {"alpha": 0.6, "beta": 0.4}
    exponents |= {name: options.pop(name) for name in ("alpha", "beta", "eps", "priority_key") if name in options}
    settings = {"batch_size": 8, "sampler": PrioritizedSampler(capacity, **exponents), "seed": 0, **options}
    transforms = [] if n is None else [NStep(n, gamma=gamma)]
    return make_replay_buffer(capacity=capacity, transforms=transforms, **settings)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"capacity": 60}, "capacity=60: the old one has capacity=50"),
        ({"alpha": 0.7}, "alpha=0.7: the old one has alpha=0.6"),
        ({"sampler": "uniform"}, "sampler='RandomSampler': the old one has sampler='PrioritizedSampler'"),
        ({"storage": "memmap"}, "storage='LazyMemmapStorage': the old one has storage='LazyTensorStorage'"),
        ({"n": None}, "transforms=[]: the old one has transforms=['NStep']"),
        ({"n": 5}, "NStep.num_steps=5: the old one has NStep.num_steps=3"),
        ({"eps": 0.5}, "eps=0.5: the old one has eps=1e-08"),
        ({"priority_key": ("a", "b")}, "priority_key=['a', 'b']: the old one has priority_key='td_error'"),
    ],
)
def test_other_settings_are_refused(options: dict, difference: str) -> None:
    with pytest.raises(ValueError, match=re.escape(difference)):
        check_settings(settings_of(build()), settings_of(build(**options)), what="the old one")


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"beta": 0.9}, {"seed": 5}, {"gamma": 0.5}])
def test_what_the_reader_may_choose_is_not_compared(options: dict) -> None:
    check_settings(settings_of(build()), settings_of(build(**options)), what="the old one")


def test_other_entries_are_refused() -> None:
    buffers = [build(n=None), build(n=None)]
    for buffer, batch in zip(buffers, (steps(10), steps(10).exclude("action")), strict=True):
        buffer.extend(TensorDict(batch.flatten(0, 1).to_dict(), [20]))
    with pytest.raises(ValueError, match=re.escape("entry 'action': absent in this buffer, torch.int64 [] in the old")):
        check_settings(*map(settings_of, buffers), what="the old one")


def test_names_of_storages_in_older_files_are_kept() -> None:
    assert settings_of(make_replay_buffer(capacity=4, batch_size=2))["storage"] == "LazyTensorStorage"
    assert FrameStorage.saved_as == "FrameStorage"
