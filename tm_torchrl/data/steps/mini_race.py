"""``MiniRace``: a horizon of 7 s that is drawn again whenever a transition is sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.transforms import Transform

from tm_torchrl.world.observation import MINI_RACE_STEPS, observation_layout

NEEDED = (
    *("step_rewards", "step_discounts", "num_steps", "steps_to_finish"),
    *("observation", ("next", "observation"), ("next", "done")),
)


class MiniRace(Transform):
    """Make sampled transitions part of a race that ends after ``num_actions`` actions (Linesight's "mini-race").

    The agent learns the reward of the next 7 s, which needs no discount. At each sampling, a random clock t places the
    transition in its mini-race; it is written into the observation and tells the network how much time is left. In
    rollouts the clock is 0. With n steps in a transition and H actions in a mini-race:

    - the clock is t = max(0, |U{-a..H+b-1}| - b) with a = ``oversample_long_term_steps - b``,
      b = ``oversample_maximum_term_steps``; the next observation's is t + n;
    - of the n steps n' = n - max(0, t + n - H) lie within the mini-race;
    - the transition ends its race if n' >= steps_to_finish or t + n >= H;
    - reward = step_rewards[n' - 1] - potential(s), plus step_discounts[n' - 1] * potential(s') if nothing ends.

    The transform writes ("next", "reward"), ("next", "terminated"), ("next", "done"), ("next", "truncated"),
    ``steps_to_next_obs`` (n') and the clocks. The storage is not changed. The next observation of a transition that is
    shortened (n' < n) stays too: the race has ended, so its value is not used. The environment's reward must not
    contain a potential as well.

    Args:
        num_actions: H.
        oversample_long_term_steps: Number of first clocks, those of long horizons, that are drawn twice as often.
        oversample_maximum_term_steps: Number of further draws from either side that become t = 0, as in rollouts.
        seed: Seeds the transform's own random generator.
        clock_index: Index of the clock in the observation.
        potential: Potential of observations ``[B, F]``, such as ``Potential.potential``; ``None`` uses
            what is stored at ``"potential"``, or else 0.

    Examples:
        >>> from tensordict import TensorDict
        >>> steps = torch.full((2, 1), 2)
        >>> sample = TensorDict({"observation": torch.zeros(2, 184), "step_rewards": torch.ones(2, 2),
        ...     "step_discounts": torch.ones(2, 2), "num_steps": steps, "steps_to_finish": torch.tensor([[3], [2]]),
        ...     "next": {"observation": torch.zeros(2, 184), "done": steps < 2}}, [2])
        >>> sample = MiniRace(seed=1)(sample)
        >>> sample["observation"][:, 0], sample["next", "observation"][:, 0], sample["next", "terminated"].view(-1)
        (tensor([45., 19.]), tensor([47., 21.]), tensor([False,  True]))
    """

    def __init__(
        self,
        num_actions: int = MINI_RACE_STEPS,
        *,
        oversample_long_term_steps: int = 40,
        oversample_maximum_term_steps: int = 5,
        seed: int | None = None,
        clock_index: int | None = None,
        potential: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if num_actions < 1:
            raise ValueError(f"num_actions={num_actions}: must be at least 1")
        if not 0 <= oversample_maximum_term_steps <= oversample_long_term_steps <= num_actions:
            raise ValueError(
                f"oversample_maximum_term_steps={oversample_maximum_term_steps}, "
                f"oversample_long_term_steps={oversample_long_term_steps}: must be 0 <= the first <= the second <= "
                f"num_actions={num_actions}"
            )
        super().__init__()
        self.num_actions = num_actions
        self.oversample_long_term_steps = oversample_long_term_steps
        self.oversample_maximum_term_steps = oversample_maximum_term_steps
        self.clock_index = observation_layout()["clock"].start if clock_index is None else clock_index
        self.potential = potential
        self.seed = seed
        self.generator = torch.Generator()
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(seed)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The sample ``[B]`` with random clocks, and with the rewards and ends that follow from them."""
        self._check(tensordict)
        num_steps = tensordict["num_steps"]
        clock = self.draw_clocks(num_steps.numel()).view(num_steps.shape).to(num_steps.device)
        race = mini_race(
            clock,
            num_steps,
            tensordict["steps_to_finish"],
            tensordict["step_rewards"],
            tensordict["step_discounts"],
            self._potentials(tensordict, like=tensordict["step_rewards"][..., :1]),
            num_actions=self.num_actions,
        )
        out = tensordict.copy()
        out["steps_to_next_obs"] = race["num_used"]
        out["next", "reward"] = race["reward"]
        out["next", "terminated"] = race["is_terminal"]
        truncated = tensordict.get(("next", "truncated"), tensordict["next", "done"]) & ~race["is_terminal"]
        out["next", "done"] = race["is_terminal"] | truncated
        if ("next", "truncated") in tensordict.keys(True):
            out["next", "truncated"] = truncated
        for part, time in ((out, clock), (out["next"], clock + num_steps)):
            observation = part["observation"].clone()
            observation[..., self.clock_index] = time.squeeze(-1).to(observation.dtype)
            part["observation"] = observation
        return out

    def draw_clocks(self, num: int) -> Tensor:
        """Draw clocks of ``num`` transitions, int64, from 0 to ``num_actions - 1``."""
        more_zeros = self.oversample_maximum_term_steps
        low = more_zeros - self.oversample_long_term_steps
        high = self.num_actions + more_zeros  # excluded
        return (torch.randint(low, high, (num,), generator=self.generator).abs() - more_zeros).clamp(min=0)

    def get_extra_state(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the generator's state."""
        self.generator.set_state(state["generator"])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "generator": self.generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        generator = torch.Generator()
        generator.set_state(state["generator"])
        super().__setstate__({**state, "generator": generator})

    def _potentials(self, sample: TensorDictBase, *, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.potential is not None:
            here, there = (self.potential(part["observation"]) for part in (sample, sample["next"]))
            return here.view_as(like), there.view_as(like)
        found = [sample.get(key, None) for key in ("potential", ("next", "potential"))]
        if found[0] is None and found[1] is None:
            return torch.zeros_like(like), torch.zeros_like(like)
        if found[0] is None or found[1] is None:
            raise ValueError("'potential': must be stored at both ends of the transitions")
        return found[0].view_as(like), found[1].view_as(like)

    def _check(self, sample: TensorDictBase) -> None:
        keys = set(sample.keys(True, True))
        missing = [key for key in NEEDED if key not in keys]
        if missing:
            raise ValueError(
                f"samples: {missing} missing among {sorted(keys, key=str)}; append NStep(...) to the buffer before "
                "anything is stored, and MiniRace(...) after it"
            )
        longest = int(sample["num_steps"].max()) if sample["steps_to_finish"].numel() else 0
        if longest > self.num_actions:
            raise ValueError(f"num_actions={self.num_actions}: must be at least {longest}, the steps of a transition")


def mini_race(
    clock: Tensor,
    num_steps: Tensor,
    steps_to_finish: Tensor,
    step_rewards: Tensor,
    step_discounts: Tensor,
    potentials: tuple[Tensor, Tensor],
    *,
    num_actions: int,
) -> dict[str, Tensor]:
    """Reward and end of transitions that start at the given clocks of a mini-race; potentials are those at both ends.

    Shapes: all are ``[B, 1]`` except step_rewards and step_discounts, which are ``[B, n]``; clocks and steps are int64.

    Examples:
        >>> one = torch.ones(1, 1).long()
        >>> race = mini_race(138 * one, 3 * one, 4 * one, torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3),
        ...     (torch.zeros(1, 1), torch.zeros(1, 1)), num_actions=140)
        >>> {name: value.item() for name, value in race.items()}
        {'num_used': 2, 'is_terminal': True, 'reward': 2.0}
    """
    num_used = num_steps - (clock + num_steps - num_actions).clamp(min=0)
    is_terminal = (num_used >= steps_to_finish) | (clock + num_steps >= num_actions)
    potential, next_potential = potentials
    discount = step_discounts.gather(-1, num_used - 1)
    shaping = torch.where(is_terminal, 0.0, discount * next_potential) - potential
    return {
        "num_used": num_used,
        "is_terminal": is_terminal,
        "reward": step_rewards.gather(-1, num_used - 1) + shaping,
    }
