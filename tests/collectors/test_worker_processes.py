"""Worker processes at their start, at an interrupt, and when the trainer is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.failing_env import CountingBatch, make_policy
from tests.collectors.test_supervised import is_running, posix
from tm_torchrl.collectors import supervised
from tm_torchrl.collectors import watchdog as watched_work
from tm_torchrl.collectors import worker_group as group
from tm_torchrl.collectors.supervised import SupervisedCollector, WorkerError
from tm_torchrl.collectors.watchdog import WatchedFuture, WorkerFailed
from tm_torchrl.collectors.worker_env import Channel

slow = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, threading, time
from functools import partial
from tests.collectors.failing_env import CountingBatch, make_policy
from tm_torchrl.collectors.supervised import SupervisedCollector
from tm_torchrl.trainers.loop import stopped_by_interrupt

class Training:
    is_stopped = is_evaluating = False
    def stop(self, reason):
        self.is_stopped = True

def show(collector):
    while len(collector._processes()) < int(sys.argv[2]):
        time.sleep(0.01)
    print("processes", *(process.pid for process in collector._processes()), flush=True)

if __name__ == "__main__":
    functions = [partial(CountingBatch, num_envs=2)] * int(sys.argv[2])
    collector = SupervisedCollector(functions, make_policy(), kind=sys.argv[1], frames_per_batch=16)
    threading.Thread(target=show, args=(collector,), daemon=True).start()
    training = Training()
    with stopped_by_interrupt(training):
        for batch in collector:
            print("batch", flush=True)
            if training.is_stopped:
                break
    collector.shutdown()
    print("over", flush=True)
"""


def watched(work: Callable[[], object], folder: Path, *, timeout_s: float) -> WatchedFuture:
    return WatchedFuture(work, channels=[Channel(folder, 3)], processes=list, timeout_s=timeout_s, what="step")


def test_time_in_which_the_trainer_itself_stood_still_is_not_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three looks come 100 s late, as after Ctrl-Z: 3 s are counted, and 5 s are allowed."""
    late = iter([100.0, 100.0, 100.0])
    clock = [0.0]

    def monotonic() -> float:
        clock[0] += next(late, 0.0)
        return clock[0]

    monkeypatch.setattr(watched_work.time, "monotonic", monotonic)
    assert watched(lambda: time.sleep(0.5) or "done", tmp_path, timeout_s=5.0).result() == "done"


def test_work_that_stands_still_names_the_worker(tmp_path: Path) -> None:
    work = watched(lambda: time.sleep(5.0), tmp_path, timeout_s=0.3)
    with pytest.raises(WorkerFailed, match=r"no worker made a step for 0\.3 s: worker 3 hangs or was stopped"):
        work.result()


def never(num_envs: int) -> CountingBatch:
    time.sleep(1000.0)
    return CountingBatch(num_envs)


@pytest.mark.parametrize("kind", ["multi_sync", pytest.param("multi_async", marks=slow)])
def test_a_start_that_never_ends_is_an_error_and_leaves_no_process(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "START_TIMEOUT_S", 3.0)
    monkeypatch.setattr(supervised, "SLOW_START_S", 0.5)
    messages: list[str] = []
    collector = SupervisedCollector([partial(never, num_envs=2)], make_policy(), kind=kind, log=messages.append)
    with pytest.raises(WorkerError, match="no worker made a start for 3 s: worker 0 hangs or was stopped"):
        next(collector)
    assert messages == [supervised.SLOW_START], "told once, while it starts"
    processes = collector._processes()
    assert processes
    collector.shutdown()
    assert not any(process.is_alive() for process in processes if not getattr(process, "_closed", False))


@pytest.mark.parametrize("kind", [pytest.param("multi_sync", marks=slow), "multi_async"])
def test_workers_that_are_just_being_started_are_ended_too(kind: str) -> None:
    collector = SupervisedCollector([partial(CountingBatch, num_envs=2)] * 2, make_policy(), kind=kind)
    collector._prepare()
    for one in collector._groups:
        one.request(collector._staged)
    while len(processes := collector._processes()) < 2:
        time.sleep(0.01)
    begin = time.monotonic()
    collector.shutdown()
    assert time.monotonic() - begin < 15.0
    for process in processes:
        if not getattr(process, "_closed", False):
            process.join(5.0)
            assert not process.is_alive()
    assert not collector._processes(), "and no others come"


@posix
@pytest.mark.parametrize("is_hidden", [True, False])
def test_a_worker_that_ends_while_it_is_handed_memory_leaves_no_traceback(
    is_hidden: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    if is_hidden:
        group.hide_broken_handovers()
        group.hide_broken_handovers()
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    address, key = sharer.register(lambda connection, pid: connection.send("memory"), lambda: None)
    worker = socket.socket(socket.AF_UNIX)
    worker.connect(address)
    worker.close()
    with sharer.get_connection((address, key)) as connection:
        assert connection.recv() == "memory", "others are served as before"
    assert ("Traceback" in capfd.readouterr().err) == (not is_hidden)


def test_other_errors_are_printed_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *arguments: seen.append(arguments))
    group.hide_broken_handovers()
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        arguments = sys.exc_info()
    sys.excepthook(*arguments)  # type: ignore[arg-type]
    assert seen == [arguments]


def run(kind: str, folder: Path) -> subprocess.Popen[str]:
    """The program with two asynchronous workers, or one of the other kind, which is quicker."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(program), kind, "2" if kind == "multi_async" else "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
    )


def read_until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(word):
            return line.split()[1:]
    raise AssertionError("".join(seen))


@posix
@pytest.mark.parametrize(
    ("kind", "number", "wait_s"),
    [
        ("multi_async", signal.SIGINT, 0.2),
        ("multi_sync", signal.SIGTERM, 0.2),
        *(pytest.param("multi_sync", signal.SIGINT, s, marks=slow) for s in (0.2, 2.0)),
        pytest.param("multi_async", signal.SIGTERM, 2.0, marks=slow),
    ],
)
def test_ending_the_whole_group_while_workers_start_ends_in_order(
    kind: str, number: signal.Signals, wait_s: float, tmp_path: Path
) -> None:
    """As a terminal or a service manager does: workers go on starting, the first batch comes, and all end."""
    process = run(kind, tmp_path)
    read_until(process, "processes")
    time.sleep(wait_s)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.rstrip().endswith("over") and "Traceback" not in output


@posix
@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("multi_async", "processes"),
        ("multi_sync", "batch"),
        pytest.param("multi_async", "batch", marks=slow),
        pytest.param("multi_sync", "processes", marks=slow),
    ],
)
def test_a_killed_trainer_leaves_neither_workers_nor_files(kind: str, when: str, tmp_path: Path) -> None:
    process = run(kind, tmp_path)
    workers = [int(word) for word in read_until(process, "processes")]
    if when == "batch":
        read_until(process, "batch")
    assert tempfile.gettempdir() != str(tmp_path)
    assert list(tmp_path.glob("tm_torchrl_*"))
    process.kill()
    process.communicate()
    end = time.monotonic() + 60
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.1)
    if when == "batch":
        assert not list(tmp_path.glob("tm_torchrl_*"))
