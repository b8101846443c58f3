"""Supervised collection: order, seams, weights, failures, continuation."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from tensordict.nn import TensorDictModule, TensorDictSequential

from tests.trainers.failing_env import CountingBatch
from tm_torchrl.modules import EpsilonGreedy
from tm_torchrl.trainers.collection import SupervisedCollector, WorkerError, collector_kind

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def make_policy(epsilon: float = 0.5) -> TensorDictSequential:
    """Values from a linear layer of the count, the better action, and random ones."""
    layer = torch.nn.Linear(1, 2)
    best = TensorDictModule(lambda values: values.argmax(-1), in_keys=["action_value"], out_keys=["action"])
    values = TensorDictModule(layer, in_keys=["observation"], out_keys=["action_value"])
    return TensorDictSequential(values, best, EpsilonGreedy(epsilon))


@pytest.fixture
def build() -> Iterator[Callable[..., SupervisedCollector]]:
    made: list[SupervisedCollector] = []

    def make(*, workers: int = 1, fails: Path | None = None, **options: object) -> SupervisedCollector:
        torch.manual_seed(0)
        functions = [partial(CountingBatch, num_envs=2, fails=fails if i == 0 else None) for i in range(workers)]
        made.append(SupervisedCollector(functions, make_policy(), frames_per_batch=8 * workers, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for collector in made:
        collector.shutdown()


def test_old_names_are_understood_and_wrong_ones_explained() -> None:
    assert collector_kind("MultiSyncDataCollector") == "multi_sync"
    with pytest.raises(ValueError, match=r"collector\.kind='multisync': no such kind; did you mean multi_sync"):
        collector_kind("multisync")


def test_batches_are_lanes_by_time_with_numbered_trajectories(build: Callable[..., SupervisedCollector]) -> None:
    collector = build(kind="single")
    batches = [next(collector) for _ in range(3)]
    assert [batch.shape for batch in batches] == [(2, 4)] * 3
    # Episodes of ten steps in batches of four: lane 0 has number 0, then 0 + 2 lanes * 1 from its eleventh step on.
    assert batches[2]["collector", "traj_ids"].tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert batches[2]["observation"].squeeze(-1).tolist() == [[8, 9, 0, 1]] * 2
    assert batches[2]["next", "observation"].squeeze(-1).tolist() == [[9, 10, 1, 2]] * 2


@pytest.mark.parametrize("options", [{"kind": "single"}, {"kind": "multi_sync", "overlap": True}], ids=str)
def test_a_saved_collector_goes_on_bit_for_bit(
    options: dict[str, object], build: Callable[..., SupervisedCollector]
) -> None:
    whole = build(**options)
    expected = [next(whole).clone() for _ in range(6)]
    first = build(**options)
    for _ in range(3):
        next(first)
    state, drawn = first.state_dict(), torch.get_rng_state()
    second = build(**options)
    torch.set_rng_state(drawn)
    second.load_state_dict(state)
    for before in expected[3:]:
        after = next(second)
        assert all(torch.equal(before[key], after[key]) for key in before.keys(True, True))


def test_pushed_weights_drive_later_batches(build: Callable[..., SupervisedCollector]) -> None:
    collector = build(kind="multi_sync", overlap=True)
    next(collector)
    collector.policy[-1].epsilon = 0.0
    with torch.no_grad():
        for weight in collector.policy.parameters():
            weight.copy_(torch.tensor([[0.0], [0.0]]) if weight.ndim == 2 else torch.tensor([0.0, 1.0]))
    collector.push_weights()
    next(collector)  # was asked for before the push
    assert (next(collector)["action"] == 1).all()


def check_recovery(collector: SupervisedCollector, messages: list[str], words: str) -> None:
    """A batch comes after the failure, its trajectories are new ones, and the failure was told."""
    highest, begin = -1, time.monotonic()
    while True:
        ids = next(collector)["collector", "traj_ids"]
        if messages:
            break
        highest = max(highest, int(ids.max()))
        assert time.monotonic() - begin < 60, "no failure was noticed"
    assert words in messages[0]
    assert collector.num_restarts == 1
    assert int(ids.min()) > highest - ids.shape[0], "lanes begin new trajectories"
    assert not set(ids[:, 0].tolist()) & set(range(ids.shape[0])), "none goes on with its first one"
    assert torch.isfinite(next(collector)["observation"]).all()


def test_a_worker_that_raises_is_told_with_its_traceback_and_started_anew(
    tmp_path: Path, build: Callable[..., SupervisedCollector]
) -> None:
    (tmp_path / "raise").touch()
    messages: list[str] = []
    check_recovery(build(kind="multi_sync", fails=tmp_path, log=messages.append), messages, "the engine exploded")
    assert 'in fail\n    raise ArithmeticError("the engine exploded")' in messages[0]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_worker_that_is_killed_or_stopped_is_started_anew(
    name: str, build: Callable[..., SupervisedCollector]
) -> None:
    messages: list[str] = []
    collector = build(kind="multi_sync", workers=2, overlap=True, hang_timeout_s=3.0, log=messages.append)
    next(collector)
    os.kill(collector._processes()[1].pid, getattr(signal, name))
    check_recovery(collector, messages, "exit code -9" if name == "SIGKILL" else "one hangs or was stopped")


@posix
def test_a_worker_that_hangs_tells_where(tmp_path: Path, build: Callable[..., SupervisedCollector]) -> None:
    (tmp_path / "hang").touch()
    messages: list[str] = []
    collector = build(kind="multi_sync", fails=tmp_path, overlap=True, hang_timeout_s=2.0, log=messages.append)
    check_recovery(collector, messages, "no worker made a step for 2 s")
    assert "in fail" in messages[0]


def broken(num_envs: int) -> CountingBatch:
    raise ValueError("no such track")


@pytest.mark.parametrize("kind", ["single", "multi_sync"])
def test_an_environment_that_cannot_be_made_is_an_error_at_once(kind: str) -> None:
    collector = SupervisedCollector([partial(broken, num_envs=2)], make_policy(), kind=kind)
    with pytest.raises((WorkerError, ValueError), match="no such track"):
        next(collector)
    collector.shutdown()


def test_too_many_failures_end_with_the_last_traceback(build: Callable[..., SupervisedCollector]) -> None:
    collector = build(kind="single", max_restarts=0)
    next(collector)
    collector._crews[0].collector.env.watch.step = None
    with pytest.raises(WorkerError, match="workers failed 1 times within 10 minutes"):
        next(collector)


def test_shutdown_never_raises_and_leaves_no_process(build: Callable[..., SupervisedCollector]) -> None:
    collector = build(kind="multi_sync", overlap=True)
    next(collector)
    processes = collector._processes()
    collector.shutdown()
    collector.shutdown()
    assert not any(process.is_alive() for process in processes if not getattr(process, "_closed", False))
