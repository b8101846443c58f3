"""The cores of this machine, and how many threads share the work of an update."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

LARGE = 100_000  # weights; below, threads wait for each other longer than they save


def choose_threads(num_threads: int | Literal["auto"], weights: Iterable[Tensor]) -> int:
    """The number of threads of the learner.

    Args:
        num_threads: A number, or ``"auto"``: 2 for a large network on a CPU with two cores, if threads wait passively
            and ``OMP_NUM_THREADS`` allows it.
        weights: The network's weights.
    """
    if num_threads != "auto":
        return num_threads
    weights = list(weights)
    is_large = sum(each.numel() for each in weights) >= LARGE and weights[0].device.type == "cpu"
    is_passive = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    return min(2, usable_cores(), torch.get_num_threads()) if is_large and is_passive else 1


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
