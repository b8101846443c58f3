"""The faster precision is found whatever else the machine does."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tensordict import TensorDict

from tm_torchrl.algorithms.precision import probe_precision


class Work:
    """A learner whose updates take a given time of the processor, and wait for it too."""

    def __init__(self, cpu_s: float, wait_s: float) -> None:
        self.cpu_s, self.wait_s = cpu_s, wait_s
        self.num_updates = 0

    def update(self, batch: Any) -> None:
        self.num_updates += 1
        time.sleep(self.wait_s)
        end = time.process_time() + self.cpu_s
        while time.process_time() < end:
            pass


@pytest.mark.parametrize(("float32_s", "chosen"), [(0.004, "bfloat16"), (0.002, "float32")])
def test_time_in_which_the_processor_does_something_else_does_not_count(float32_s: float, chosen: str) -> None:
    learners = {"float32": Work(float32_s, 0.0), "bfloat16": Work(0.002, 0.02)}
    found, rates = probe_precision(learners.__getitem__, TensorDict(), seconds=0.05)  # type: ignore[arg-type]
    assert found == chosen
    assert rates["bfloat16"] == pytest.approx(500, rel=0.2)


def test_a_precision_that_the_processor_lacks_costs_three_updates() -> None:
    learners = {"float32": Work(0.002, 0.0), "bfloat16": Work(0.04, 0.0)}
    found, rates = probe_precision(learners.__getitem__, TensorDict(), seconds=0.5)  # type: ignore[arg-type]
    assert found == "float32"
    assert rates["bfloat16"] == pytest.approx(25, rel=0.2)
    assert [each.num_updates for each in learners.values()] == [3, 3]  # the first ones are not timed
