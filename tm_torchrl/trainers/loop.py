"""The training loop: collect, store, learn, log."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tensordict import TensorDictBase

from tm_torchrl.collectors.processes import ENDING_SIGNALS
from tm_torchrl.trainers.training import INTERRUPTED, Training

PATIENCE_S = 2.0  # how long the updates of a batch go on before an interrupt breaks them off
FORCED_AFTER_S = 5.0  # a Ctrl-C so long after the first one ends the process at once


def run_loop(training: Training) -> Training:
    """Train until all frames are played, the time is over, or it is stopped.

    Ctrl-C stops after the present batch, or between two of its updates if they take long.

    Args:
        training: Continues from its present state.
    """
    t, now = training, time.perf_counter
    t.set_schedules()
    with stopped_by_interrupt(t):
        if t.is_learning:  # its last session was stopped between two updates
            t.start_clock()
            learn(t)
        source, asked_at = iter(t.source), now()
        while not t.is_over() and (steps := next(source, None)) is not None:
            t.busy_s["collect"] += now() - asked_at
            t.start_clock()
            store(t, steps)
            learn(t)
            asked_at = now()
    t.stop_clock()
    return t


def store(t: Training, steps: TensorDictBase) -> None:
    """Count and remember a batch of steps."""
    begin = time.perf_counter()
    t.frames += steps.numel()
    t.num_batches += 1
    t.episodes.add(steps)
    t.algorithm.memory.extend(steps)
    t.set_schedules()
    t.is_learning = True
    t.busy_s["learn"] += time.perf_counter() - begin


def learn(t: Training) -> None:
    """Make the updates that are due, and call the hooks; an interrupt may leave both to the next session."""
    memory, begin = t.algorithm.memory, time.perf_counter()
    for batch in memory.batches():
        t.losses = dict(t.algorithm.learner.update(batch))
        memory.seen(batch)
        if t.is_stopped and time.perf_counter() - begin > PATIENCE_S:
            return
    t.source.push_weights()
    t.is_learning = False
    t.busy_s["learn"] += (learnt := time.perf_counter()) - begin
    for hook in t.hooks:
        hook.after_batch(t)
    t.busy_s["watch"] += time.perf_counter() - learnt


@contextmanager
def stopped_by_interrupt(training: Training, *, may_be_forced: bool = True) -> Iterator[None]:
    """Let SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal is gone) stop the training.

    An evaluation is broken off by each of them. Otherwise those that follow change nothing, so that a supervisor's
    second signal does not cost what the first one wants saved.

    Args:
        training: Will be stopped.
        may_be_forced: Whether another Ctrl-C, some seconds after the first signal, ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came_at: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not training.is_stopped:
            training.stop(INTERRUPTED)
        came_at.append(time.monotonic())
        is_late = came_at[-1] - came_at[0] > FORCED_AFTER_S
        if training.is_evaluating or (may_be_forced and number == signal.SIGINT and is_late):
            raise KeyboardInterrupt

    always = (signal.SIGINT, signal.SIGTERM)  # nohup ignores the other
    names = [name for name in ENDING_SIGNALS if name in always or signal.getsignal(name) is not signal.SIG_IGN]
    before = {name: signal.signal(name, stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
