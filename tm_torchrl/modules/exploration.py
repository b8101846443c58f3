"""Exploration: modules behind an actor that replace some of its actions and mark those that are still greedy.

Each module reads ``action_value`` and ``action`` and writes ``action`` and ``is_greedy`` (``[*B]``: whether the action
is the greedy one, for blocks in every slot), which the n-step writer can use. Actions may be categorical or one-hot.
The modules act only while exploring (``ExplorationType.RANDOM``). To combine them put one behind the other::

    policy = TensorDictSequential(actor, PerturbedValues(0.1), EpsilonGreedy(0.05))

Probabilities are buffers that a schedule sets: ``module.epsilon = 0.1``.
"""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.envs import ExplorationType
from torchrl.envs.utils import exploration_type, set_exploration_type

from tm_torchrl.modules.layers.noisy import draw_factors, is_noisy, reset_noise, row_noise

HELD_KEYS = ("held_action", "held_steps")
NOISE_KEYS = ("noise", "noise_steps")
UNCHANGED_KEY = "unchanged_steps"
MOST_DOUBLINGS = 20
LONGEST = 2**62  # steps of an episode


class _Exploration(TensorDictModuleBase):
    """Replaces the greedy action by another one with a probability.

    Args:
        epsilon: The probability.
        per_block: Whether one draw decides for a whole action block instead of for each slot.
    """

    epsilon: Tensor
    carried_keys: tuple[str, ...] = ()

    def __init__(self, epsilon: float, *, per_block: bool = False) -> None:
        super().__init__()
        self.register_buffer("epsilon", torch.tensor(_probability(epsilon)))
        self.per_block = per_block
        self.set_keys()

    def set_keys(
        self,
        *,
        action: NestedKey = "action",
        action_value: NestedKey = "action_value",
        is_greedy: NestedKey = "is_greedy",
    ) -> None:
        """Name the entries that are read and written; those that are not given have their default names."""
        self.action_key, self.action_value_key, self.is_greedy_key = action, action_value, is_greedy
        self.in_keys = [action_value, action]
        self.out_keys = [action, is_greedy, *self.carried_keys]

    def __setattr__(self, name: str, value: object) -> None:
        if name == "epsilon" and isinstance(value, (int, float)):
            self._buffers["epsilon"].fill_(_probability(value))
        else:
            super().__setattr__(name, value)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Replace some of the actions while exploring, and mark the greedy ones."""
        value = tensordict.get(self.action_value_key)
        action = tensordict.get(self.action_key)
        is_one_hot = action.ndim == value.ndim
        index = action.argmax(-1) if is_one_hot else action
        if exploration_type() is ExplorationType.RANDOM:
            index = self.explored(index, value, tensordict)
            action = nn.functional.one_hot(index, value.shape[-1]).to(action.dtype) if is_one_hot else index
            tensordict.set(self.action_key, action)
        is_greedy = index == value.argmax(-1)
        while is_greedy.ndim > tensordict.ndim:
            is_greedy = is_greedy.all(-1)
        return tensordict.set(self.is_greedy_key, is_greedy)

    def explored(self, index: Tensor, value: Tensor, tensordict: TensorDictBase) -> Tensor:
        """The actions ``index`` with some of them replaced."""
        shape = tensordict.batch_size if self.per_block else index.shape
        is_explored = torch.rand(shape, device=value.device) < self.epsilon
        is_explored = is_explored.view(*is_explored.shape, *(1,) * (index.ndim - is_explored.ndim))
        return torch.where(is_explored, self.other_action(value), index)

    def other_action(self, value: Tensor) -> Tensor:
        """Indices of the actions that replace the greedy ones, from values ``[..., A]``."""
        raise TypeError(f"{type(self).__name__} must define other_action(value)")


class EpsilonGreedy(_Exploration):
    """A uniformly random action with probability epsilon, which may be held for several steps.

    Held actions (Dabney et al. 2021, "Temporally-extended epsilon-greedy exploration") find what single random actions
    never string together, such as braking in front of a corner. What is held travels in the TensorDict, in
    ``held_action`` and ``held_steps`` (the number of steps for which it still lasts); collectors carry both to the next
    step. Behind an actor that masks actions use TorchRL's ``EGreedyModule(action_mask_key=...)``.

    Args:
        epsilon: The share of steps that are explored.
        mean_steps: The mean duration of a random action; durations are drawn from a geometric distribution.
        per_block: Whether one draw decides for a whole action block instead of for each slot.

    Examples:
        >>> from tensordict import TensorDict
        >>> from torchrl.envs import set_exploration_type
        >>> td = TensorDict({"action_value": torch.tensor([[1.0, 0.0]]), "action": torch.tensor([0])}, [1])
        >>> with set_exploration_type(ExplorationType.RANDOM):
        ...     bool(EpsilonGreedy(0.0)(td)["is_greedy"])
        True
    """

    def __init__(self, epsilon: float, *, mean_steps: float = 1.0, per_block: bool = False) -> None:
        super().__init__(epsilon, per_block=per_block)
        if not 1 <= mean_steps < float("inf"):
            raise ValueError(f"mean_steps={mean_steps}: must be at least 1; with 1 no action is held")
        self.mean_steps = mean_steps
        if mean_steps > 1:
            self.carried_keys = HELD_KEYS
            self.set_keys()

    def explored(self, index: Tensor, value: Tensor, tensordict: TensorDictBase) -> Tensor:
        """Actions that are held, begin, or stay as they are."""
        if self.mean_steps == 1:
            return super().explored(index, value, tensordict)
        shape = tensordict.batch_size
        held, left = (tensordict.get(key, None) for key in HELD_KEYS)
        if held is None or left is None:
            held, left = (torch.zeros(shape, dtype=torch.int64, device=value.device) for _ in HELD_KEYS)
        # From one beginning to the next it takes 1 / begins - 1 + mean_steps steps on average, and mean_steps of them
        # are explored; with this probability their share is epsilon.
        begins = self.epsilon / (self.epsilon + self.mean_steps * (1 - self.epsilon))
        is_begun = (left <= 0) & (torch.rand(shape, device=value.device) < begins)
        steps = torch.empty(shape, device=value.device).geometric_(1 / self.mean_steps).to(torch.int64)
        held = torch.where(is_begun, torch.randint(value.shape[-1], shape, device=value.device), held)
        left = torch.where(is_begun, steps, left)
        is_held = (left > 0).view(*shape, *(1,) * (index.ndim - len(shape)))
        tensordict.update(dict(zip(HELD_KEYS, (held, (left - 1).clamp(min=0)), strict=True)))
        return torch.where(is_held, held.view(is_held.shape), index)

    def other_action(self, value: Tensor) -> Tensor:
        """Any action."""
        return torch.randint(value.shape[-1], value.shape[:-1], device=value.device)


class PerturbedValues(_Exploration):
    """With probability epsilon the best action after adding a little Gaussian noise to the values.

    It explores among actions of nearly equal value: the Linesight agent's "Boltzmann" exploration. There one draw
    decides between a random action (probability e), this one (b) and the greedy one; ``PerturbedValues(b / (1 - e))``
    before ``EpsilonGreedy(e)`` is the same.

    Args:
        epsilon: The probability.
        scale: The deviation of the noise, in units of value.
        per_block: Whether one draw decides for a whole action block instead of for each slot.

    Examples:
        >>> PerturbedValues(0.15, scale=0.01).other_action(torch.tensor([[1.0, 0.0]]))
        tensor([0])
    """

    def __init__(self, epsilon: float, *, scale: float = 0.01, per_block: bool = False) -> None:
        super().__init__(epsilon, per_block=per_block)
        if not scale > 0:
            raise ValueError(f"scale={scale}: must be positive; without noise leave the module out")
        self.scale = scale

    def other_action(self, value: Tensor) -> Tensor:
        """The actions with the highest perturbed values."""
        return (value + self.scale * torch.randn_like(value)).argmax(-1)


class Boltzmann(_Exploration):
    """With probability epsilon an action drawn from the softmax of the values.

    Args:
        temperature: In units of value.
        epsilon: The probability; 1 always draws.
        per_block: Whether one draw decides for a whole action block instead of for each slot.

    Examples:
        >>> Boltzmann(0.03).other_action(torch.tensor([[1.0, 0.0]]))
        tensor([0])
    """

    def __init__(self, temperature: float, *, epsilon: float = 1.0, per_block: bool = False) -> None:
        super().__init__(epsilon, per_block=per_block)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive; without softmax leave the module out")
        self.temperature = temperature

    def other_action(self, value: Tensor) -> Tensor:
        """A draw from the softmax: the best action after adding Gumbel noise."""
        gumbel = -torch.empty_like(value).exponential_().log()
        return (value / self.temperature + gumbel).argmax(-1)


class NoisyExploration(TensorDictModuleBase):
    """An actor with noisy layers that draws new noise before it acts.

    It takes the action with the highest noisy value. ``action_value`` and ``is_greedy`` are those without noise: an
    action that only the noise prefers is exploration, at which n-step returns end. Without that cut the default drive
    learnt slow laps, or late. Put ``EpsilonGreedy`` behind it for BTR's combination.
    Noise that is held travels in the TensorDict, in ``noise`` and ``noise_steps`` (the number of steps for which it
    still lasts), so that each car keeps its own and a saved run continues with it.

    What training does to the noise is not made for exploring: it fades where losses are small, as along the laps that
    are driven most and where a car stands still, and then changes no action any more. With ``patience`` the noise of a
    car therefore doubles whenever it has changed none of its actions for so many steps, and falls back once it has; the
    count travels in ``unchanged_steps``. Losses see none of that.

    Args:
        actor: An actor with ``NoisyLinear`` layers.
        every: The number of steps for which noise is held, or ``"episode"``; more than 1 needs ``per_car``.
        per_car: Whether each row of the batch has its own noise instead of one draw for all rows.
        patience: Steps without a changed action in which the noise of a car doubles; ``None`` leaves it as it is.

    Examples:
        >>> from torchrl.data import Categorical
        >>> from tm_torchrl.modules import MLPIQNetwork, NoisyLinear, QuantileActor
        >>> actor = NoisyExploration(QuantileActor(MLPIQNetwork(4, 2, linear=NoisyLinear), spec=Categorical(2)))
        >>> actor.out_keys
        ['action', 'action_value', 'chosen_action_value', 'is_greedy']
    """

    carried_keys: tuple[str, ...] = ()

    def __init__(
        self,
        actor: TensorDictModuleBase,
        *,
        every: int | Literal["episode"] = 1,
        per_car: bool = False,
        patience: float | None = None,
    ) -> None:
        super().__init__()
        if not is_noisy(actor):
            raise ValueError(
                "actor: it has no noisy layers; construct its network with linear=NoisyLinear "
                "(objective.network.linear=noisy)"
            )
        if every != "episode" and every < 1:
            raise ValueError(f"every={every}: must be at least 1, or 'episode'")
        if every != 1 and not per_car:
            raise ValueError(f"every={every}, per_car=False: only cars with their own noise hold it; set per_car=True")
        if patience is not None and not patience > 0:
            raise ValueError(f"patience={patience}: must be a positive number of steps, or None")
        self.actor = actor
        self.num_steps = LONGEST if every == "episode" else every
        self.per_car = per_car
        self.patience = patience
        self.carried_keys = (NOISE_KEYS if every != 1 else ()) + (() if patience is None else (UNCHANGED_KEY,))
        self.in_keys = actor.in_keys
        self.out_keys = [*actor.out_keys, "is_greedy", *self.carried_keys]

    @property
    def spec(self) -> object:
        """The action's spec."""
        return self.actor.spec

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act with fresh or held noise while exploring, without noise otherwise."""
        noisy = self._noisy_action(tensordict) if exploration_type() is ExplorationType.RANDOM else None
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            tensordict = self.actor(tensordict)
        if noisy is None:
            is_greedy = torch.ones(tensordict.batch_size, dtype=torch.bool, device=tensordict.device)
        else:
            is_greedy = noisy == tensordict.get("action")
            while is_greedy.ndim > tensordict.ndim:
                is_greedy = is_greedy.all(-1)
            tensordict.set("action", noisy)
            if self.patience is not None:
                tensordict.set(UNCHANGED_KEY, torch.where(is_greedy, self._unchanged(tensordict) + 1, 0))
        return tensordict.set("is_greedy", is_greedy)

    def _noisy_action(self, tensordict: TensorDictBase) -> Tensor:
        noise: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        scale_B = None
        if self.patience is not None:
            doublings = (self._unchanged(tensordict) / self.patience).clamp(max=MOST_DOUBLINGS)
            scale_B = torch.exp2(doublings).reshape(-1)
        if self.per_car:
            noise = row_noise(self.actor, self._noise_of(tensordict), scale_B=scale_B)
        elif scale_B is not None:
            noise = row_noise(self.actor, draw_factors(self.actor, 1).expand(len(scale_B), -1), scale_B=scale_B)
        else:
            reset_noise(self.actor)
        with noise:
            action: Tensor = self.actor(tensordict.copy()).get("action")
        return action

    def _unchanged(self, tensordict: TensorDictBase) -> Tensor:
        found = tensordict.get(UNCHANGED_KEY, None)
        return (
            torch.zeros(tensordict.batch_size, dtype=torch.int64, device=tensordict.device) if found is None else found
        )

    def _noise_of(self, tensordict: TensorDictBase) -> Tensor:
        """Noise of each row, ``[B, K]``: held, or drawn where it has lasted long enough or an episode begins."""
        fresh = draw_factors(self.actor, tensordict.numel())
        if self.num_steps == 1:
            return fresh
        fresh = fresh.reshape(*tensordict.batch_size, -1)
        held, left = (tensordict.get(key, None) for key in NOISE_KEYS)
        if held is None or left is None:
            held, left = fresh, torch.zeros(tensordict.batch_size, dtype=torch.int64, device=fresh.device)
        is_over = left <= 0
        held = torch.where(is_over.unsqueeze(-1), fresh, held)
        left = torch.where(is_over, self.num_steps, left) - 1
        tensordict.update(dict(zip(NOISE_KEYS, (held, left), strict=True)))
        return held.flatten(0, -2) if held.ndim > 1 else held.unsqueeze(0)


def _probability(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"epsilon={value}: must be a probability, between 0 and 1")
    return float(value)
