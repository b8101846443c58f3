"""Prioritised replay: its distribution, its weights, what it refuses, and the trees under it."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage
from torchrl.data import TensorDictPrioritizedReplayBuffer as TorchRLBuffer
from torchrl.data.replay_buffers.scheduler import LinearScheduler

from tm_torchrl.data import PrioritizedSampler, TensorDictPrioritizedReplayBuffer
from tm_torchrl.data.storage import prioritized_sampler as module


def filled(
    num: int = 8, *, capacity: int = 8, alpha: float = 0.5, eps: float = 0.0, seed: int | None = 0, **options: object
) -> TensorDictPrioritizedReplayBuffer:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    buffer = TensorDictPrioritizedReplayBuffer(
        alpha=alpha,
        beta=options.pop("beta", 1.0),
        eps=eps,
        storage=LazyTensorStorage(capacity),
        batch_size=64,
        generator=generator,
        **options,
    )
    buffer.extend(TensorDict({"x": torch.arange(num)}, [num]))
    return buffer


PRIORITIES = torch.tensor([1.0, 4.0, 9.0, 16.0, 0.25, 1.0, 4.0, 100.0])
EXPECTED = np.sqrt(PRIORITIES.double().numpy())  # alpha 1/2


def test_distribution() -> None:
    buffer = filled()
    buffer.update_priority(torch.arange(8), PRIORITIES)
    num = 40_000
    counts = np.bincount(buffer.sample(num)["x"].numpy(), minlength=8)
    expected = num * EXPECTED / EXPECTED.sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in 1000 seeds


def test_distribution_over_many_items() -> None:
    """20,000 items with priorities over many decades, drawn 400,000 times; cells of at least 50 expected draws."""
    num, num_draws = 20_000, 400_000
    priority = 10.0 ** (8 * torch.rand(num, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    buffer = filled(num, capacity=num, alpha=0.25)
    buffer.update_priority(torch.arange(num), priority)
    share = (priority**0.25 / (priority**0.25).sum()).numpy()
    cell = np.unique((share.cumsum() * num_draws / 50).astype(int), return_inverse=True)[1]
    counts = np.bincount(cell, np.bincount(buffer.sample(num_draws)["x"].numpy(), minlength=num))
    expected = np.bincount(cell, num_draws * share)
    chi_square, freedom = ((counts - expected) ** 2 / expected).sum(), len(expected) - 1
    assert freedom > 5000
    assert abs(chi_square - freedom) < 3.3 * np.sqrt(2 * freedom)  # normal for so many: exceeded once in 1000 seeds


def test_weights_by_hand() -> None:
    buffer = filled(beta=0.5)
    buffer.update_priority(torch.arange(8), PRIORITIES)
    batch = buffer.sample()
    by_hand = (EXPECTED / EXPECTED.min()) ** -0.5
    assert torch.equal(batch["priority_weight"], torch.tensor(by_hand, dtype=torch.float32)[batch["x"]])


def tree_of(buffer: TensorDictPrioritizedReplayBuffer) -> list[float]:
    return buffer.sampler.state_dict()["tree"].tolist()


def test_new_items_get_the_highest_priority_seen() -> None:
    buffer = filled(6)
    buffer.update_priority(torch.arange(6), PRIORITIES[:6])
    buffer.extend(TensorDict({"x": torch.tensor([6, 7])}, [2]))
    assert tree_of(buffer) == [1.0, 2.0, 3.0, 4.0, 0.5, 1.0, 4.0, 4.0]
    buffer.update_priority(7, 100.0)
    buffer.extend(TensorDict({"x": torch.tensor([8, 9, 10])}, [3]))  # over 0, 1 and 2
    assert tree_of(buffer) == [10.0, 10.0, 10.0, 4.0, 0.5, 1.0, 4.0, 10.0]
    assert buffer.sampler._sum_tree.query(0, 8) == sum(tree_of(buffer))
    assert set(buffer.sample(2000)["x"].tolist()) == {8, 9, 10, 3, 4, 5, 6, 7}


@pytest.mark.parametrize(
    ("index", "priority", "expected"),
    [
        ([3, 3, 3], [1.0, 2.0, 9.0], [1, 1, 1, 3, 1, 1, 1, 1]),  # the last of several for one item
        ([3, -1, 4], [25.0, 81.0, 49.0], [1, 1, 1, 5, 7, 1, 1, 1]),  # -1: items that a writer skipped
        ([3, 4], 9.0, [1, 1, 1, 3, 3, 1, 1, 1]),  # one for all
        ([], [], [1] * 8),
    ],
)
def test_priorities_of_some_items(index: list[int], priority: object, expected: list[float]) -> None:
    buffer = filled()
    buffer.update_priority(torch.tensor(index, dtype=torch.int64), torch.tensor(priority))
    assert tree_of(buffer) == expected


def test_priorities_from_a_tensordict() -> None:
    buffer = filled(alpha=1.0)
    batch = buffer.sample(3)
    buffer.update_tensordict_priority(batch.set("td_error", torch.tensor([[5.0], [5.0], [5.0]])))
    assert buffer.sampler.state_dict()["tree"][batch["index"]].tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("seed", [3, None], ids=["its generator", "torch's generator"])
def test_numpy_draws_nothing(seed: int | None) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = []
    for global_seed in (5, 6 if seed is not None else 5):
        buffer = filled(seed=seed)
        torch.manual_seed(global_seed)
        drawn.append(buffer.sample()["x"])
    assert torch.equal(*drawn)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


IMPOSSIBLE = [
    ([1.0, 2.0, float("nan")], "1 of 3 priorities are negative or not finite, the first is nan at 2 (of item 7)"),
    ([1.0, float("inf"), -1.0], "2 of 3 priorities are negative or not finite, the first is inf at 1 (of item 3)"),
    ([-1.0, 2.0, 0.0], "1 of 3 priorities are negative or not finite, the first is -1.0 at 0 (of item 5)"),
    ([1.0, 0.0, 2.0], "1 of 3 priorities are 0 or infinite as (priority + 0)^2, the first is 0.0 at 1"),
    ([1.0, 1e200, 2.0], "1 of 3 priorities are 0 or infinite as (priority + 0)^2, the first is 1e+200 at 1"),
    ([1.0, 1e-200, 2.0], "1 of 3 priorities are 0 or infinite as (priority + 0)^2, the first is 1e-200 at 1"),
]


@pytest.mark.parametrize(("given", "message"), IMPOSSIBLE, ids=lambda value: str(value)[:20])
def test_impossible_priorities_change_nothing(given: list, message: str) -> None:
    buffer = filled(alpha=2.0, priority_key=("loss", "size"))
    batch = buffer.sample(3)
    before = buffer.sampler.state_dict()
    batch["index"] = torch.tensor([5, 3, 7])
    batch["loss", "size"] = torch.tensor(given, dtype=torch.float64).unsqueeze(-1)
    with pytest.raises(ValueError, match=re.escape(f"('loss', 'size'): {message}")):
        buffer.update_tensordict_priority(batch)
    after = buffer.sampler.state_dict()
    assert torch.equal(before.pop("tree"), after.pop("tree"))
    assert before == after


def test_items_that_do_not_exist_and_other_numbers_change_nothing() -> None:
    buffer = filled()
    before = buffer.sampler.state_dict()
    with pytest.raises(IndexError, match="index 8: must be below 8"):
        buffer.update_priority(torch.tensor([3, 8]), torch.tensor([5.0, 7.0]))
    with pytest.raises(ValueError, match="'td_error': 3 priorities for 2 items"):
        buffer.update_priority(torch.tensor([3, 4]), torch.ones(3))
    with pytest.raises(ValueError, match=re.escape("index: its shape is [2, 2]")):
        buffer.update_priority(torch.zeros(2, 2, dtype=torch.int64), torch.ones(2))
    after = buffer.sampler.state_dict()
    assert torch.equal(before.pop("tree"), after.pop("tree"))
    assert before == after


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_impossible_priorities_are_refused_even_if_draws_are_uniform(bad: float) -> None:
    """Anything to the power 0 is 1, NaN too."""
    with pytest.raises(ValueError, match=f"the first is {bad} at 0"):
        filled(alpha=0.0).update_priority(torch.tensor([3, 4]), torch.tensor([bad, 1.0]))


def test_a_loaded_state_draws_the_same() -> None:
    buffer, other = filled(seed=1), filled(seed=2)
    buffer.sample()
    buffer.update_priority(torch.arange(8), PRIORITIES)
    buffer.extend(TensorDict({"x": torch.tensor([20, 21])}, [2]))
    other.load_state_dict(buffer.state_dict())
    for _ in range(3):
        ours, theirs = buffer.sample(), other.sample()
        assert torch.equal(ours["x"], theirs["x"])
        assert torch.equal(ours["priority_weight"], theirs["priority_weight"])
        for each in (buffer, other):
            each.extend(TensorDict({"x": torch.tensor([22, 23, 24])}, [3]))


def test_sampler_dumps_and_loads(tmp_path) -> None:
    buffer, other = filled(), filled()
    buffer.update_priority(torch.arange(8), PRIORITIES)
    buffer.sampler.dumps(tmp_path / "sampler")
    other.sampler.loads(tmp_path / "sampler")
    ours, theirs = (b.sampler.state_dict() for b in (buffer, other))
    assert torch.equal(ours.pop("tree"), theirs.pop("tree"))
    assert ours == theirs
    with pytest.raises(ValueError, match="max_capacity=9: the saved sampler has max_capacity=8"):
        filled(capacity=9).sampler.loads(tmp_path / "sampler")


def test_beta_follows_a_schedule() -> None:
    buffer = filled(beta=0.4)
    scheduler = LinearScheduler(buffer.sampler, param_name="beta", final_value=1.0, num_steps=3)
    for expected in (0.6, 0.8, 1.0):
        scheduler.step()
        assert buffer.beta == pytest.approx(expected)
        assert type(buffer.beta) is float  # numpy's scalars would have to be pickled


def test_alpha_set_anew_converts_what_is_stored() -> None:
    buffer = filled(alpha=0.5)
    buffer.update_priority(torch.arange(8), PRIORITIES)
    buffer.sampler.alpha = 1.0
    sampler = buffer.sampler
    assert torch.allclose(sampler.state_dict()["tree"], PRIORITIES.double(), rtol=1e-12)
    assert sampler._sum_tree.query(0, 8) == pytest.approx(float(PRIORITIES.double().sum()), rel=1e-12)
    assert sampler._min_tree.query(0, 8) == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_exponents_set_out_of_range_change_nothing(value: float) -> None:
    buffer = filled()
    with pytest.raises(ValueError, match=f"beta={value}"):
        buffer.beta = value
    with pytest.raises(ValueError, match=f"alpha={value}"):
        buffer.sampler.alpha = value
    assert (buffer.sampler.alpha, buffer.beta) == (0.5, 1.0)


def test_single_items_and_emptying() -> None:
    buffer = filled(4, alpha=1.0)
    buffer.update_priority(2, 6.0)
    assert buffer.add(TensorDict({"x": torch.tensor(4)}, [])) == 4
    assert tree_of(buffer) == [1.0, 1, 6, 1, 6, 0, 0, 0]
    buffer.empty()
    with pytest.raises(RuntimeError, match="empty"):
        buffer.sample()
    buffer.extend(TensorDict({"x": torch.tensor([9])}, [1]))
    assert tree_of(buffer) == [1.0, 0, 0, 0, 0, 0, 0, 0]


def test_items_without_priorities() -> None:
    storage = LazyTensorStorage(8)
    storage.set(torch.arange(8), TensorDict({"x": torch.arange(8)}, [8]))
    with pytest.raises(RuntimeError, match="none of the 8 items in the storage has a priority"):
        PrioritizedSampler(8, 0.5, 0.4).sample(storage, 2)


def test_arguments_are_those_of_torchrl() -> None:
    """All but those for several processes, other devices and compilation."""
    ours, theirs = (
        {name: argument.default for name, argument in inspect.signature(kind.__init__).parameters.items()}
        for kind in (TensorDictPrioritizedReplayBuffer, TorchRLBuffer)
    )
    left_out = {"sampler_device", "sync", "shared", "compilable", "transport", "transport_options"}
    assert ours == {name: default for name, default in theirs.items() if name not in left_out}


def test_samples_may_be_prefetched() -> None:
    buffer = filled(alpha=1.0, prefetch=2)
    buffer.update_priority(torch.arange(8), torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 0]) + 1e-20)
    assert [buffer.sample()["x"].unique().tolist() for _ in range(4)] == [[3]] * 4


def test_arguments_out_of_range() -> None:
    for name, value in (("alpha", -0.1), ("beta", float("nan")), ("eps", -1.0)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            PrioritizedSampler(10, **{"alpha": 0.6, "beta": 0.4, name: value})
    with pytest.raises(ValueError, match="ndim=2"):
        TensorDictPrioritizedReplayBuffer(alpha=0.6, beta=0.4, storage=LazyTensorStorage(10, ndim=2))


def test_the_tree_in_use_is_said(caplog: pytest.LogCaptureFixture) -> None:
    module._log_once.cache_clear()
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
