"""Supervised collection: order, trajectories, weights, failures, resuming."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tm_torchrl.collectors.supervised import SupervisedCollector, WorkerError, collector_kind

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed: pip install "tm_torchrl[ray]"')
RAY = pytest.param("ray", marks=needs_ray)
MULTI = [
    pytest.param({"kind": "multi_sync", "overlap": True}, id="multi_sync"),
    pytest.param({"kind": "multi_async"}, id="multi_async"),
    pytest.param({"kind": "ray"}, id="ray", marks=needs_ray),
]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def test_old_names_are_understood_and_wrong_ones_explained() -> None:
    assert collector_kind("MultiSyncDataCollector") == "multi_sync"
    assert collector_kind("MultiaSyncDataCollector") == collector_kind("MultiAsyncCollector") == "multi_async"
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
    first = build(**options)
    for _ in range(3):
        next(first)
    state, drawn = first.state_dict(), torch.get_rng_state()
    expected = [next(first).clone() for _ in range(3)]
    second = build(**options)
    torch.set_rng_state(drawn)
    second.load_state_dict(state)
    for before in expected:
        after = next(second)
        assert all(torch.equal(before[key], after[key]) for key in before.keys(True, True))


def test_saving_changes_nothing(build: Callable[..., SupervisedCollector]) -> None:
    whole = build(kind="single")
    expected = [next(whole).clone() for _ in range(4)]
    saved = build(kind="single")
    for before in expected:
        after = next(saved)
        assert all(torch.equal(before[key], after[key]) for key in before.keys(True, True))
        saved.state_dict()


@pytest.mark.parametrize("options", MULTI)
def test_pushed_weights_collect_later_batches_and_shutdown_leaves_no_process(
    options: dict[str, object], build: Callable[..., SupervisedCollector]
) -> None:
    collector = build(**options)
    next(collector)
    collector.policy[-1].epsilon = 0.0
    with torch.no_grad():
        for weight in collector.policy.parameters():
            weight.copy_(torch.tensor([[0.0], [0.0]]) if weight.ndim == 2 else torch.tensor([0.0, 1.0]))
    collector.push_weights()
    next(collector)  # was requested before the push
    assert (next(collector)["action"] == 1).all()
    processes = pids(collector)
    assert processes
    for _ in range(2):
        collector.shutdown()
    end = time.monotonic() + 20.0
    while any(is_running(pid) for pid in processes):
        assert time.monotonic() < end, "a process lives on"
        time.sleep(0.1)


def pids(collector: SupervisedCollector) -> list[int]:
    """The numbers of the workers' processes, which for Ray actors are on this machine too."""
    found = []
    for process in collector._processes():
        if process.pid is None:
            import ray

            found.append(ray.get(process.actor.process.remote()))
        else:
            found.append(process.pid)
    return found


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not found.stdout.strip().startswith("Z") and bool(found.stdout.strip())


def wait_for_all(collector: SupervisedCollector) -> None:
    """Until every worker has delivered a batch."""
    seen: set[int] = set()
    while len(seen) < 2 * len(collector.make_env):
        seen |= set(next(collector)["collector", "lane"].flatten().tolist())


def check_recovery(collector: SupervisedCollector, messages: list[str], words: str, *, failing: int = 0) -> None:
    """The failing worker delivers again, with new trajectories, and the failure was reported."""
    before: set[int] = set()
    begin = time.monotonic()
    while True:
        numbers = next(collector)["collector"]
        ids = set(numbers["traj_ids"].flatten().tolist())
        if messages and 2 * failing in numbers["lane"]:
            break
        before |= ids
        assert time.monotonic() - begin < 100, "no failure was noticed, or nobody came back"
    assert words in messages[0]
    assert collector.num_restarts == 1
    assert not ids & before, "lanes begin new trajectories"
    assert torch.isfinite(next(collector)["observation"]).all()


@pytest.mark.parametrize("kind", ["multi_sync", pytest.param("multi_async", marks=pytest.mark.slow), RAY])
def test_a_worker_that_raises_is_reported_with_its_traceback_and_restarts(
    kind: str, tmp_path: Path, build: Callable[..., SupervisedCollector]
) -> None:
    (tmp_path / "raise").touch()
    messages: list[str] = []
    check_recovery(build(kind=kind, fails=tmp_path, log=messages.append), messages, "the engine exploded")
    assert 'in fail\n    raise ArithmeticError("the engine exploded")' in messages[0]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("options", [pytest.param({"kind": "multi_sync"}, id="in_turns"), *MULTI])
def test_a_worker_that_is_killed_or_stopped_restarts(
    options: dict[str, object], name: str, build: Callable[..., SupervisedCollector]
) -> None:
    messages: list[str] = []
    collector = build(**options, workers=2, hang_timeout_s=3.0, log=messages.append)
    wait_for_all(collector)
    os.kill(pids(collector)[1], getattr(signal, name))
    who = "one" if options["kind"] == "multi_sync" else "worker 1"
    words = "worker 1 ended" if name == "SIGKILL" else f"{who} hangs or was stopped"
    check_recovery(collector, messages, words, failing=1)


@posix
@pytest.mark.parametrize("kind", ["multi_async", pytest.param("multi_sync", marks=pytest.mark.slow), RAY])
def test_a_worker_that_hangs_tells_where(kind: str, tmp_path: Path, build: Callable[..., SupervisedCollector]) -> None:
    (tmp_path / "hang").touch()
    messages: list[str] = []
    collector = build(kind=kind, fails=tmp_path, hang_timeout_s=2.0, log=messages.append)
    check_recovery(collector, messages, "no worker made a step for 2 s")
    assert "in fail" in messages[0]


def broken(num_envs: int) -> CountingBatch:
    raise ValueError("no such track")


@pytest.mark.parametrize("kind", ["single", "multi_sync", "multi_async", RAY])
def test_an_environment_that_cannot_be_made_is_an_error_at_once(
    kind: str, build: Callable[..., SupervisedCollector]
) -> None:
    collector = build(kind=kind)
    collector.make_env = [partial(broken, num_envs=2)]
    with pytest.raises((WorkerError, ValueError), match="no such track"):
        next(collector)
    collector.shutdown()


def without_room(num_envs: int) -> CountingBatch:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_shared_memory_is_explained() -> None:
    collector = SupervisedCollector([partial(without_room, num_envs=2)], make_policy(), kind="multi_sync")
    try:
        with pytest.raises(WorkerError, match=r"No space left on device(.|\n)*/dev/shm .*--shm-size"):
            next(collector)
    finally:
        collector.shutdown()


def test_too_many_failures_end_with_the_last_traceback(build: Callable[..., SupervisedCollector]) -> None:
    collector = build(kind="single", max_restarts=0)
    next(collector)
    collector._groups[0].collector.env.env._step = None
    with pytest.raises(WorkerError, match="workers failed 1 times within 10 minutes"):
        next(collector)


@posix
def test_restarts_leave_no_thread_and_no_open_file_behind(build: Callable[..., SupervisedCollector]) -> None:
    """TorchRL waits for ever for a worker that has ended to say that it has its weights."""

    def restarted() -> tuple[int, int]:
        os.kill(collector._groups[0].processes()[0].pid, signal.SIGKILL)
        next(collector)
        gc.collect()
        folder = Path("/proc/self/fd")
        return threading.active_count(), len(list(folder.iterdir())) if folder.exists() else 0

    collector = build(kind="multi_sync")
    next(collector)
    first = restarted()
    assert [restarted() for _ in range(2)] == [first, first]
