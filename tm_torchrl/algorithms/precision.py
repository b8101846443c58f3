"""A short probe of which precision is faster on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from tensordict import TensorDictBase

from tm_torchrl.algorithms.learner import Learner

FASTER_BY = 1.1  # bfloat16 must be worth its rounding errors
MIN_PAIRS = 9


def probe_precision(
    make_learner: Callable[[str], Learner], batch: TensorDictBase, *, seconds: float = 1.0
) -> tuple[str, dict[str, float]]:
    """Measure alternately whether updates are faster in float32 or in bfloat16.

    On a CPU the time is that of the processor, so that the choice does not depend on what else the machine does.

    Args:
        make_learner: Makes a learner of a given precision, which the probe trains and drops.
        batch: A batch of the size that will be learnt from.
        seconds: Duration of the probe.

    Returns:
        ``"bfloat16"`` if it is more than 1.1 times as fast in the median of pairs of updates, else ``"float32"``; and
        the updates per second of both.
    """
    is_cuda = batch.device is not None and batch.device.type == "cuda"
    clock = time.perf_counter if is_cuda else time.process_time
    with torch.random.fork_rng():
        learners = {name: make_learner(name) for name in ("float32", "bfloat16")}
        times: dict[str, list[float]] = {name: [] for name in learners}
        for learner in learners.values():
            learner.update(batch.clone())
        end = clock() + seconds
        while clock() < end or len(times["bfloat16"]) < MIN_PAIRS:
            for name, learner in learners.items():
                start = clock()
                learner.update(batch.clone())
                if is_cuda:
                    torch.cuda.synchronize(batch.device)
                times[name].append(clock() - start)
    gain = statistics.median(x / y for x, y in zip(times["float32"], times["bfloat16"], strict=True))
    rates = {name: 1.0 / statistics.median(found) for name, found in times.items()}
    return ("bfloat16" if gain > FASTER_BY else "float32"), rates
