"""Prioritised replay: its law, its weights, what it refuses, and the trees under it."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage
from torchrl.data.replay_buffers.scheduler import LinearScheduler

from tm_torchrl.data import PrioritizedSampler, TensorDictPrioritizedReplayBuffer
from tm_torchrl.data import prioritized as module


def filled(
    num: int = 8, *, capacity: int = 8, alpha: float = 0.5, beta: float = 1.0, seed: int | None = 0, **options: object
) -> TensorDictPrioritizedReplayBuffer:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    buffer = TensorDictPrioritizedReplayBuffer(
        alpha=alpha,
        beta=beta,
        eps=0.0,
        storage=LazyTensorStorage(capacity),
        batch_size=64,
        generator=generator,
        **options,
    )
    buffer.extend(TensorDict({"x": torch.arange(num)}, [num]))
    return buffer


PRIORITIES = torch.tensor([1.0, 4.0, 9.0, 16.0, 0.25, 1.0, 4.0, 100.0])
EXPECTED = np.sqrt(PRIORITIES.double().numpy())  # alpha 1/2


def test_law() -> None:
    buffer = filled()
    buffer.update_priority(torch.arange(8), PRIORITIES)
    num = 40_000
    counts = np.bincount(buffer.sample(num)["x"].numpy(), minlength=8)
    expected = num * EXPECTED / EXPECTED.sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in 1000 seeds


def test_weights_by_hand() -> None:
    buffer = filled(beta=0.5)
    buffer.update_priority(torch.arange(8), PRIORITIES)
    batch = buffer.sample()
    by_hand = (EXPECTED / EXPECTED.min()) ** -0.5
    assert torch.equal(batch["priority_weight"], torch.tensor(by_hand, dtype=torch.float32)[batch["x"]])


def test_new_items_get_the_highest_priority_seen() -> None:
    buffer = filled(6)
    buffer.update_priority(torch.arange(6), PRIORITIES[:6])
    buffer.extend(TensorDict({"x": torch.tensor([6, 7])}, [2]))
    tree = buffer.prioritized_sampler.state_dict()["tree"]
    assert tree.tolist() == [1.0, 2.0, 3.0, 4.0, 0.5, 1.0, 4.0, 4.0]


def test_wrap_around_replaces_priorities() -> None:
    buffer = filled()
    buffer.update_priority(torch.arange(8), PRIORITIES)
    buffer.extend(TensorDict({"x": torch.tensor([8, 9, 10])}, [3]))
    tree = buffer.prioritized_sampler.state_dict()["tree"]
    assert tree.tolist() == [10.0, 10.0, 10.0, 4.0, 0.5, 1.0, 2.0, 10.0]
    assert buffer.prioritized_sampler._sum_tree.query(0, 8) == tree.sum()
    assert set(buffer.sample(2000)["x"].tolist()) == {8, 9, 10, 3, 4, 5, 6, 7}


def test_the_last_of_several_priorities_for_one_item_counts() -> None:
    buffer = filled()
    buffer.update_priority(torch.tensor([3, 3, 3]), torch.tensor([1.0, 2.0, 9.0]))
    assert buffer.prioritized_sampler.state_dict()["tree"][3] == 3.0


def test_priorities_from_a_tensordict() -> None:
    buffer = filled(alpha=1.0)
    batch = buffer.sample(3)
    buffer.update_tensordict_priority(batch.set("td_error", torch.tensor([[5.0], [5.0], [5.0]])))
    assert buffer.prioritized_sampler.state_dict()["tree"][batch["index"]].tolist() == [5.0, 5.0, 5.0]


def test_sampling_follows_the_generator_alone() -> None:
    first, second = filled(seed=3), filled(seed=3)
    np.random.seed(0)
    torch.manual_seed(0)
    drawn = first.sample()["x"]
    np.random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, second.sample()["x"])


def test_without_a_generator_torch_draws() -> None:
    buffer = filled(seed=None)
    state = np.random.get_state()[1].copy()
    torch.manual_seed(5)
    drawn = buffer.sample()["x"]
    torch.manual_seed(5)
    assert torch.equal(drawn, buffer.sample()["x"])
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_bad_priorities_change_nothing(bad: float) -> None:
    buffer = filled()
    before = copy.deepcopy(buffer.prioritized_sampler.state_dict())
    with pytest.raises(ValueError, match=re.escape(f"1 of 3 are negative or not finite, the first at 2 is {bad}")):
        buffer.update_priority(torch.arange(3), torch.tensor([1.0, 2.0, bad]))
    after = buffer.prioritized_sampler.state_dict()
    assert torch.equal(before.pop("tree"), after.pop("tree"))
    assert before == after


def test_saved_state_draws_alike() -> None:
    buffer, other = filled(seed=1), filled(seed=2)
    buffer.update_priority(torch.arange(8), PRIORITIES)
    buffer.sample()
    other.load_state_dict(buffer.state_dict())
    for _ in range(3):
        ours, theirs = buffer.sample(), other.sample()
        assert torch.equal(ours["x"], theirs["x"])
        assert torch.equal(ours["priority_weight"], theirs["priority_weight"])


def test_sampler_dumps_and_loads(tmp_path) -> None:
    buffer, other = filled(), filled()
    buffer.update_priority(torch.arange(8), PRIORITIES)
    buffer.prioritized_sampler.dumps(tmp_path / "sampler")
    other.prioritized_sampler.loads(tmp_path / "sampler")
    ours, theirs = (b.prioritized_sampler.state_dict() for b in (buffer, other))
    assert torch.equal(ours.pop("tree"), theirs.pop("tree"))
    assert ours == theirs
    with pytest.raises(ValueError, match="capacity 8, this one 9"):
        filled(capacity=9).prioritized_sampler.loads(tmp_path / "sampler")


def test_beta_follows_a_schedule() -> None:
    buffer = filled(beta=0.4)
    scheduler = LinearScheduler(buffer, param_name="beta", final_value=1.0, num_steps=3)
    for _ in range(3):
        scheduler.step()
    assert buffer.beta == pytest.approx(1.0)


def test_writers_without_the_tree() -> None:
    """sync=False: the learner catches up with what was written when it samples."""
    buffer = filled(sync=False, alpha=1.0)
    assert buffer.sample(500)["x"].unique().tolist() == list(range(8))
    buffer.update_priority(torch.arange(8), torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 0]))
    assert buffer.sample()["x"].unique().tolist() == [3]


@pytest.mark.parametrize(("name", "value"), [("alpha", -0.1), ("beta", float("nan")), ("eps", -1.0)])
def test_arguments_out_of_range(name: str, value: float) -> None:
    arguments = {"alpha": 0.6, "beta": 0.4, "eps": 1e-8, name: value}
    with pytest.raises(ValueError, match=f"{name}={value}"):
        PrioritizedSampler(10, **arguments)


def test_a_storage_of_two_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="ndim=2"):
        TensorDictPrioritizedReplayBuffer(alpha=0.6, beta=0.4, storage=LazyTensorStorage(10, ndim=2))


def test_empty_buffer() -> None:
    buffer = TensorDictPrioritizedReplayBuffer(alpha=0.6, beta=0.4, storage=LazyTensorStorage(10), batch_size=2)
    with pytest.raises(RuntimeError, match="empty"):
        buffer.sample()


def test_the_tree_in_use_is_said(caplog: pytest.LogCaptureFixture) -> None:
    module._say_once.cache_clear()
    with caplog.at_level("INFO", logger="tm_torchrl.data"):
        assert filled().tree in caplog.text
    assert len([line for line in caplog.messages if "tree" in line]) == 1


@pytest.mark.skipif(module.SumSegmentTreeFp64 is None, reason="torchrl's compiled trees do not load with this torch")
def test_both_trees_draw_the_same() -> None:
    states = []
    for compiled in (False, True):
        sampler = PrioritizedSampler(8, 0.5, 0.4, 0.0, compiled=compiled)
        sampler._rng = torch.Generator().manual_seed(0)
        sampler.update_priority(torch.arange(8), PRIORITIES)
        storage = LazyTensorStorage(8)
        storage.set(torch.arange(8), TensorDict({"x": torch.arange(8)}, [8]))
        states.append(sampler.sample(storage, 100))
    assert torch.equal(states[0][0], states[1][0])


@pytest.mark.skipif(module.SumSegmentTreeFp64 is not None, reason="torchrl's compiled trees load here")
def test_compiled_trees_asked_for_where_they_do_not_load() -> None:
    with pytest.raises(ImportError, match="do not load with this torch"):
        PrioritizedSampler(8, 0.5, 0.4, compiled=True)
