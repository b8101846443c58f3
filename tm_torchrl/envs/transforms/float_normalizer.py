"""Normalisation by fixed numbers, for environments whose network does not normalise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Composite, TensorSpec
from torchrl.envs.transforms import ObservationNorm


class FloatNormalizer(ObservationNorm):
    """``(observation - mean) / std`` by fixed numbers: TorchRL's ``ObservationNorm`` with checked arguments.

    Args:
        mean: One number, or one per feature ``[F]``.
        std: One positive number, or one per feature ``[F]``.
        in_keys: Keys of the observations; for a replay buffer add ``("next", "observation")``.

    Examples:
        >>> from tensordict import TensorDict
        >>> batch = TensorDict({"observation": torch.tensor([[30.0, 1.0]])}, [1])
        >>> FloatNormalizer([10.0, 1.0], [40.0, 0.5])(batch)["observation"]
        tensor([[0.5000, 0.0000]])
    """

    def __init__(
        self,
        mean: float | Sequence[float] | Tensor,
        std: float | Sequence[float] | Tensor,
        *,
        in_keys: Sequence[NestedKey] = ("observation",),
    ) -> None:
        loc = torch.as_tensor(mean, dtype=torch.float32)
        scale = torch.as_tensor(std, dtype=torch.float32)
        if loc.ndim > 1 or scale.ndim > 1 or (loc.ndim and scale.ndim and loc.shape != scale.shape):
            raise ValueError(f"mean has shape {tuple(loc.shape)}, std {tuple(scale.shape)}; expected a number or [F]")
        if not bool((torch.isfinite(loc)).all()):
            raise ValueError("mean must be finite")
        wrong = (~(torch.isfinite(scale) & (scale > 0))).reshape(-1).nonzero().reshape(-1).tolist()
        if wrong:
            raise ValueError(f"std must be positive and finite; entries {wrong[:8]} are not")
        super().__init__(loc=loc, scale=scale, in_keys=list(in_keys), standard_normal=True)

    def transform_observation_spec(self, observation_spec: TensorSpec) -> TensorSpec:
        """Bounds are normalised like the values."""
        if isinstance(observation_spec, Composite):
            num = max(self.loc.numel(), self.scale.numel())
            for key in self.in_keys:
                if key not in observation_spec.keys(True, True):
                    found = sorted(map(str, observation_spec.keys(True, True)))
                    raise KeyError(f"FloatNormalizer: no {key!r} in the environment, which has {', '.join(found)}")
                shape = tuple(observation_spec[key].shape)
                if num > 1 and shape[-1:] != (num,):
                    raise ValueError(f"{key!r} has shape {shape}, but mean and std have {num} entries")
        return super().transform_observation_spec(observation_spec)
