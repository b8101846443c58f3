"""A short probe of which precision is faster on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from tensordict import TensorDictBase

from tm_torchrl.algorithms.learner import Learner

FASTER_BY = 1.1  # what rounds differently must be worth it
MIN_PAIRS = 9
MUCH_SLOWER = 3.0  # twice in a row settles it: without hardware for bfloat16 an update takes 5 to 40 times as long


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
    with torch.random.fork_rng():
        learners = {name: make_learner(name) for name in ("float32", "bfloat16")}
        gain, *rates = measure_gain(
            lambda: learners["float32"].update(batch.clone()),
            lambda: learners["bfloat16"].update(batch.clone()),
            seconds=seconds,
            device=batch.device,
        )
    return ("bfloat16" if gain > FASTER_BY else "float32"), dict(zip(learners, rates, strict=True))


def measure_gain(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    seconds: float,
    device: torch.device | None = None,
) -> tuple[float, float, float]:
    """Call two functions alternately; on a CPU the time is that of the processor.

    Args:
        first: One way to do something.
        second: Another way.
        seconds: Duration of the measurement.
        device: Where they compute; ``None`` for a CPU.

    Returns:
        How many times as fast the second is, in the median of pairs of calls; and the calls per second of both. If the
        first two pairs say that the second is much slower, there are no more.
    """
    is_cuda = device is not None and device.type == "cuda"
    clock = time.perf_counter if is_cuda else time.process_time
    times: list[tuple[float, float]] = []

    def timed(function: Callable[[], object]) -> float:
        start = clock()
        function()
        if is_cuda:
            torch.cuda.synchronize(device)
        return clock() - start

    for function in (first, second):
        function()
    end = clock() + seconds
    while clock() < end or len(times) < MIN_PAIRS:
        times.append((timed(first), timed(second)))
        if len(times) == 2 and all(y > MUCH_SLOWER * x for x, y in times):
            break
    gain = statistics.median(x / y for x, y in times)
    return gain, *(1.0 / statistics.median(each) for each in zip(*times, strict=True))
