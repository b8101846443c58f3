"""The training loop: collect, store, learn, log."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tm_torchrl.trainers.training import INTERRUPTED, Training


def run_loop(training: Training) -> Training:
    """Train until all frames are played, the time is over, or it is stopped (Ctrl-C stops after the present batch).

    Args:
        training: Continues from its present state.
    """
    t, now = training, time.perf_counter
    memory, learner = t.algorithm.memory, t.algorithm.learner
    t.set_schedules()
    with stopped_by_interrupt(t):
        asked_at = now()
        for steps in t.source:
            begin = now()
            t.busy_s["collect"] += begin - asked_at
            t.frames += steps.numel()
            t.num_batches += 1
            t.episodes.add(steps)
            memory.extend(steps)
            t.set_schedules()
            for batch in memory.batches():
                t.losses = dict(learner.update(batch))
                memory.seen(batch)
            t.source.push_weights()
            t.busy_s["learn"] += (learnt := now()) - begin
            for hook in t.hooks:
                hook.after_batch(t)
            asked_at = now()
            t.busy_s["watch"] += asked_at - learnt
            if t.is_over():
                break
    return t


@contextmanager
def stopped_by_interrupt(training: Training) -> Iterator[None]:
    """Let SIGINT (Ctrl-C) or SIGTERM stop the training after the batch, and a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if training.is_stopped:
            raise KeyboardInterrupt
        training.stop(INTERRUPTED)

    names = [signal.SIGINT, signal.SIGTERM]
    before = {name: signal.signal(name, stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
