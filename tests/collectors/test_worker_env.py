"""What a policy carries from step to step: through a batch's end, a saved run, and the beginning of an episode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase

from tests.envs.countdown import Countdown
from tm_torchrl.collectors import SupervisedCollector
from tm_torchrl.modules.carried import carried_values


class ResumableCountdown(Countdown):
    """Lane 0 has episodes of three steps, lane 1 of four or another number."""

    def save(self) -> dict[str, torch.Tensor]:
        return {"taken": self.taken.clone()}

    def restore(self, saved: dict[str, torch.Tensor]) -> None:
        self.taken = saved["taken"].clone()

    def present(self) -> TensorDictBase:
        return self._out()


class Remembers(TensorDictModuleBase):
    """Counts the steps of an episode in two ways.

    ``count`` is replaced at the root, as held actions are. ``hidden`` is read at the root and its next value written
    under "next", as recurrent modules do.
    """

    in_keys, out_keys, carried_keys = ["observation"], ["action", "count", ("next", "hidden")], ["count", "hidden"]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        count, hidden = (tensordict.get(key, torch.zeros(*tensordict.batch_size, 1)) for key in self.carried_keys)
        action = torch.zeros(tensordict.batch_size, dtype=torch.int64)
        return tensordict.update(
            {"count": count + 1, "hidden": hidden, "next": {"hidden": hidden + 1}, "action": action}
        )


def collector(lengths: tuple[int, ...]) -> Any:
    return SupervisedCollector(
        [lambda: ResumableCountdown(lengths)], Remembers(), kind="single", frames_per_batch=3 * len(lengths)
    )


@pytest.mark.parametrize("lengths", [(3, 4), (3, 3), (5, 7)], ids=["one ends with the batch", "both", "none"])
def test_it_counts_the_steps_of_each_episode_also_after_a_resume(lengths: tuple[int, ...]) -> None:
    """The observation is the number of steps before; the count is one more."""
    whole = collector(lengths)
    batches = [next(whole) for _ in range(3)]
    first = collector(lengths)
    next(first)
    state = first.state_dict()
    resumed = collector(lengths)
    resumed.load_state_dict(state)
    again = [next(resumed) for _ in range(2)]
    for batch in (*batches, *again):
        steps_before = batch["observation"][..., :1]
        assert torch.equal(batch["count"], steps_before + 1)
        assert torch.equal(batch["hidden"], steps_before)
        assert torch.equal(batch["next", "hidden"], steps_before + 1)
    for one, other in zip(batches[1:], again, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("observation", "count", "hidden"))
    for each in (whole, first, resumed):
        each.shutdown()


def test_what_the_policy_wrote_under_next_is_what_goes_on() -> None:
    """Recurrent modules read a state at the root and write the following one under "next"."""
    step = TensorDict({"hidden": torch.zeros(2), "other": torch.ones(2), "next": {"hidden": torch.ones(2)}}, [2])
    assert carried_values(step, ["hidden", "absent"])["hidden"].tolist() == [1.0, 1.0]
    assert "other" not in carried_values(step, ["hidden"])
