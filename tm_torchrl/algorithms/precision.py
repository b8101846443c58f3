"""A short probe of which precision is faster on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from tensordict import TensorDictBase

from tm_torchrl.algorithms.learner import Learner

FASTER_BY = 1.1  # bfloat16 must be worth its rounding errors


def probe_precision(
    make_learner: Callable[[str], Learner], batch: TensorDictBase, *, seconds: float = 2.0
) -> tuple[str, dict[str, float]]:
    """Measure alternately whether updates are faster in float32 or in bfloat16.

    Args:
        make_learner: Makes a learner of a given precision, which the probe trains and drops.
        batch: A batch of the size that will be learnt from.
        seconds: Duration of the probe.

    Returns:
        ``"bfloat16"`` if it is more than 1.1 times as fast, else ``"float32"``; and the updates per second of both.
    """
    with torch.random.fork_rng():
        learners = {name: make_learner(name) for name in ("float32", "bfloat16")}
        best = dict.fromkeys(learners, 0.0)
        for learner in learners.values():
            learner.update(batch.clone())
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or not all(best.values()):
            for name, learner in learners.items():
                start = time.perf_counter()
                learner.update(batch.clone())
                if batch.device is not None and batch.device.type == "cuda":
                    torch.cuda.synchronize(batch.device)
                best[name] = max(best[name], 1.0 / (time.perf_counter() - start))
    return ("bfloat16" if best["bfloat16"] > FASTER_BY * best["float32"] else "float32"), best
