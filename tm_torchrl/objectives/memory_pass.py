"""Evaluation of a network with memory on sequences.

Shapes: B sequences, L records of each, K steps to learn from, D features of the core, S numbers of its state.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Tensor

from tm_torchrl.modules.actor import QuantileModule
from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.quantiles.network import Quantiles
from tm_torchrl.objectives.network_pass import NetworkPass, split_at_quantiles

FEATURES = "memory_features"  # of the core, one entry for each network
INDEX = "record_index"  # of a step among all records of its batch


class StepKeys(NamedTuple):
    """The keys of what a loss reads of a step beside observations."""

    of_steps: list[NestedKey]
    steps_to_next_obs: NestedKey
    action_mask: NestedKey


class MemoryPass(NetworkPass):
    """Scans whole sequences once under each network's parameters, and then evaluates the head on single steps.

    A batch ``[B, L]`` holds sequences of records in the order of time, of which the next one has the next observation;
    the last observation of an episode is a record of its own. ``learning_mask`` is True for the K steps to learn from;
    the records before the first of them only warm the memory up (burn-in, without gradients), and those after the last
    end n-step returns. The scans begin with the state ``memory`` ``[B, L, S]`` of the first records, and anew where
    ``is_init`` is True. A step bootstraps ``steps_to_next_obs`` records later. ``Sequences`` makes such batches.

    In a batch ``[B]``, without ``learning_mask``, every transition is a sequence of one step, as ``NStep`` stores them:
    ``memory`` is the state before it, and ("next", "memory") the one before the next observation.
    """

    mask_key: NestedKey = "learning_mask"

    @property
    def state_keys(self) -> list[NestedKey]:
        """The features of the core."""
        return [(FEATURES, "online"), (FEATURES, "target")]

    @property
    def memory_key(self) -> NestedKey:
        """The key of the core's state."""
        return self._module.memory_key

    def batch_keys(self, keys: list[NestedKey]) -> list[NestedKey]:
        """Those of the observations and the mask instead of the features."""
        return [*self.in_keys, *(key for key in keys if FEATURES not in key), self.mask_key]

    def steps(
        self, tensordict: TensorDictBase, *, online: TensorDictBase, target: TensorDictBase, keys: StepKeys
    ) -> TensorDictBase:
        """The steps ``[K]`` to learn from, with the features of their states and next states under both networks.

        Args:
            tensordict: Sequences ``[B, L]``, or transitions ``[B]``.
            online: The parameters that are trained.
            target: Those of the target network.
            keys: The keys of what else the loss reads.
        """
        mask = tensordict.get(self.mask_key, None)
        if mask is None and tensordict.ndim > 1:
            raise KeyError(
                f"no {self.mask_key!r} in a batch {list(tensordict.shape)}: a network with memory needs sequences, as "
                "Sequences samples them, or transitions [B]"
            )
        flat = tensordict.select(*keys.of_steps, ("collector", "mask"), strict=False).reshape(-1)
        if mask is None:
            index = after = torch.arange(len(flat), device=flat.device)
        else:
            index = mask.flatten().nonzero().squeeze(1)
            steps = flat.get(keys.steps_to_next_obs, None)
            after = index + (1 if steps is None else steps.flatten()[index])
        found = flat[index].set(INDEX, index)
        if mask is not None and keys.action_mask in flat:
            found.set(unravel_key(("next", keys.action_mask)), flat.get(keys.action_mask)[after])
        for name, params in (("online", online), ("target", target)):
            of_target = torch.no_grad() if params is target else contextlib.nullcontext()
            with self.swap.using(params), of_target:
                states, nexts = self._transitions(tensordict) if mask is None else self._sequences(tensordict, mask)
            found.set((FEATURES, name), states[index])
            found.set(("next", FEATURES, name), nexts[after].detach())
        self._target = target
        return found

    def __call__(self, params: TensorDictBase, observations: TensorDictBase, num_fractions: int) -> Quantiles:
        """Quantiles of all steps ``[K]`` from their features."""
        features = observations.get((FEATURES, "target" if params is self._target else "online"))
        fractions = None
        if self.source is not None:
            fractions = self.source(features.shape[:1], num_fractions, device=features.device)
        with self.swap.using(params):
            network = self._module.network
            found = network.quantiles_of(features, fractions=fractions if network.takes_fractions else None)
        is_half = found.values.element_size() < 4
        return found._replace(values=found.values.float() if is_half else found.values)

    @property
    def _module(self) -> QuantileModule:
        module = split_at_quantiles(self.network)[1]
        assert module is not None
        return module

    @property
    def _core(self) -> Core:
        core = self._module.network.core
        assert core is not None
        return core

    def _features(self, observations: TensorDictBase) -> Tensor:
        """The features before the core, ``[prod(*B), D]``."""
        before, module = split_at_quantiles(self.network)
        assert module is not None
        for each in before:
            observations = each(observations)
        seen = module.read(observations)
        return module.network.features(*module.network.flattened(seen, batch_size=observations.batch_size)[1])

    def _sequences(self, tensordict: TensorDictBase, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The core's features ``[B * L, D]`` of all records, twice: as states and as next states."""
        core = self._core
        num, state = tensordict.shape[1], tensordict.get(self.memory_key)[:, 0]
        is_init = tensordict.get("is_init", None)
        is_init = None if is_init is None else is_init.reshape(tensordict.shape)
        keys = [key for key in self.in_keys if key != self.memory_key]
        first = int(mask.reshape(tensordict.shape).any(0).int().argmax())
        parts = []
        for begin, end in ((0, first), (first, num)):
            if begin == end:
                continue
            with torch.no_grad() if end == first else contextlib.nullcontext():
                features = self._features(tensordict[:, begin:end].select(*keys))
                features = features.reshape(len(tensordict), end - begin, -1)
                now = None if is_init is None else is_init[:, begin:end]
                features, state = core.scan(features, state, now)
            parts.append(features)
        features = torch.cat(parts, 1).flatten(0, 1)
        return features, features

    def _transitions(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """The core's features ``[B, D]`` of states and of next states."""
        core = self._core
        keys = [key for key in self.in_keys if key != self.memory_key]
        after = tensordict.get("next")
        state = tensordict.get(self.memory_key, None)
        if state is None:
            state = torch.zeros(*tensordict.shape, core.state_size, device=tensordict.device)
        states, following = core.step(self._features(tensordict.select(*keys)), state)
        with torch.no_grad():
            stored = after.get(self.memory_key, None)
            nexts, _ = core.step(self._features(after.select(*keys)), following if stored is None else stored)
        return states, nexts


def spread(values: Tensor, steps: TensorDictBase, like: TensorDictBase) -> Tensor:
    """Values ``[K]`` of steps at their places among all records ``[*B, 1]``; 0 elsewhere."""
    found = values.new_zeros(like.numel())
    found[steps.get(INDEX)] = values
    return found.reshape(*like.batch_size, 1)
