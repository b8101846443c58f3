"""Checks of the first batch of a loss, so that errors name the mistake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Tensor
from torch.compiler import is_compiling

from tm_torchrl.modules.quantiles.network import Quantiles

if TYPE_CHECKING:
    from tm_torchrl.objectives.clipped_policy import ClippedPolicyLoss
    from tm_torchrl.objectives.quantile_loss import QuantileLoss


def is_traced() -> bool:
    """Whether ``torch.compile`` or a transform of ``torch.func`` is at work, where numbers cannot be looked at."""
    return is_compiling() or torch._C._are_functorch_transforms_active()


def check_batch(batch: TensorDictBase, loss: QuantileLoss) -> None:
    """Check that the keys are present, that there are samples, and that numbers are finite and in range."""
    name, keys = type(loss).__name__, loss.tensor_keys
    in_keys = loss.value_estimator.in_keys
    _require_samples(
        batch, in_keys, name, "Rename entries with set_keys(...), or observations with the network's in_keys"
    )
    reward_key = unravel_key(("next", keys.reward))
    _require_finite(batch.get(reward_key), f"{name}: the reward {reward_key!r}")
    for key in in_keys:
        _require_finite(batch.get(key), f"{name}: the batch's {key!r}")
    for key, least in ((keys.steps_to_next_obs, 1), (keys.priority_weight, 0)):
        values = batch.get(key, None)
        if values is not None and not bool((values >= least).all()):
            raise ValueError(f"{name}: {key!r} holds {values.min().item():g}; must be at least {least}")


def check_policy_batch(batch: TensorDictBase, loss: ClippedPolicyLoss, columns: Sequence[str]) -> None:
    """Check that a batch ``[B]`` has samples and finite observations, and its columns a number for each sample."""
    name = type(loss).__name__
    in_keys = [*loss.in_keys, "action", "action_log_prob", *columns]
    _require_samples(batch, in_keys, name, "Give the keys of the observations as in_keys")
    size = tuple(batch.batch_size)
    if len(size) != 1:
        raise ValueError(f"{name}: the batch has size {size}; must be [B], as batch.reshape(-1) makes it")
    for key in ("action_log_prob", *columns):
        shape = tuple(batch.get(key).shape)
        if shape != size and (shape != (*size, 1) or key == "action_log_prob"):
            column = "" if key == "action_log_prob" else f" or {(*size, 1)}"
            raise ValueError(f"{name}: {key!r} has shape {shape}; must be {size}{column}")
    for key in in_keys:
        _require_finite(batch.get(key), f"{name}: the batch's {key!r}")


def check_actions(action: Tensor, num_actions: int, what: str) -> None:
    """Check that actions are indices below ``num_actions``."""
    low, high = (int(number) for number in torch.aminmax(action))
    if low < 0 or high >= num_actions:
        raise ValueError(f"{what} holds {low if low < 0 else high}; must be indices in 0..{num_actions - 1}")


def check_quantiles(quantiles: Quantiles, loss: QuantileLoss) -> None:
    """Check that values fit their fractions, and that fractions lie inside (0, 1)."""
    name, values, fractions = type(loss).__name__, quantiles.values, quantiles.fractions
    if values.ndim not in (3, 4) or values.shape[:2] != fractions.shape:
        raise ValueError(
            f"{name}: the network gave values {tuple(values.shape)} for fractions {tuple(fractions.shape)}; must be "
            "[B, N, A] (or [B, N, S, A] for action blocks) and [B, N]"
        )
    low, high = float(fractions.detach().min()), float(fractions.detach().max())
    if not 0 < low <= high < 1:
        raise ValueError(f"{name}: fractions between {low:g} and {high:g}; they must lie inside (0, 1)")


def first_non_finite(module: QuantileLoss, batch: TensorDictBase, **results: Tensor) -> None:
    """Raise an error that names the first non-finite tensor, in the order of the computation."""
    name = type(module).__name__
    networks = (("network", module.value_network_params), ("target network", module.target_value_network_params))
    for network, params in networks:
        for key, parameter in params.items(True, True):
            _require_finite(parameter, f"{name}: the {network}'s {key if isinstance(key, str) else '.'.join(key)}")
    for key in module.value_estimator.in_keys:
        _require_finite(batch.get(key), f"{name}: the batch's {key!r}")
    for key, tensor in results.items():
        _require_finite(tensor, f"{name}: {key}")


def _require_samples(batch: TensorDictBase, keys: Sequence[NestedKey], name: str, advice: str) -> None:
    if 0 in batch.batch_size:
        raise ValueError(f"{name}: the batch is empty (batch size {tuple(batch.batch_size)})")
    present = set(batch.keys(True, True))
    missing = [key for key in keys if key not in present]
    if missing:
        raise KeyError(
            f"{name}: no {', '.join(map(repr, missing))} in the batch; it has {', '.join(sorted(map(str, present)))}. "
            f"{advice}"
        )


def _require_finite(tensor: Tensor, what: str) -> None:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        bad = ~tensor.isfinite()
        index = tuple(int(i) for i in bad.nonzero()[0])
        raise FloatingPointError(
            f"{what} is the first tensor that is not finite: {int(bad.sum())} of {tensor.numel()} numbers, the first "
            f"at {index} is {tensor[index].item()}"
        )
