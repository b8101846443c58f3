"""Noisy layers whose noise is on where it is needed: when an actor explores, and inside losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrl.modules import NoisyLinear as _TorchRLNoisyLinear


class NoisyLinear(_TorchRLNoisyLinear):
    """TorchRL's factorised noisy layer (Fortunato et al. 2018), constructed as ``nn.Linear`` is.

    The noise is on while an actor explores (``ExplorationType.RANDOM``) and off in evaluation. TorchRL's own losses
    run as if in evaluation, which silently removes the noise from training. The losses of ``tm_torchrl`` keep it, and
    draw new noise for the online and for the target network at every call.

    Args:
        in_features: The number of inputs.
        out_features: The number of outputs.
        sigma_init: The first deviation of the noise, before it is divided by the square root of the number of inputs.

    Examples:
        >>> import torch
        >>> from torchrl.envs import ExplorationType, set_exploration_type
        >>> layer, x = NoisyLinear(4, 2), torch.ones(4)
        >>> with set_exploration_type(ExplorationType.RANDOM):
        ...     before = layer(x)
        ...     layer.reset_noise()
        ...     bool((layer(x) == before).any())
        False
    """

    def __init__(self, in_features: int, out_features: int, sigma_init: float = 0.5) -> None:
        if sigma_init <= 0:
            raise ValueError(f"sigma_init={sigma_init}: must be positive; without noise use nn.Linear")
        self.row_noise: tuple[Tensor, Tensor] | None = None
        super().__init__(in_features, out_features, std_init=sigma_init)

    def reset_noise(self, num_rows: int | None = None) -> None:
        """Draw new noise.

        Args:
            num_rows: B, to give each row of inputs ``[B, ..., in_features]``, or each N rows of inputs
                ``[B * N, in_features]``, their own noise; ``None`` for one draw that all inputs share. The noise of
                rows is kept as factors ``[B, in]`` and ``[B, out]``, so that B matrices are never made. It is not
                part of the state dict.
        """
        if num_rows is None:
            self.row_noise = None
            super().reset_noise()
        else:
            self.row_noise = (
                self._scale_noise((num_rows, self.in_features)),
                self._scale_noise((num_rows, self.out_features)),
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``."""
        if self.row_noise is None or not self._should_use_noise():
            return super().forward(inputs)
        noise_in, noise_out = self.row_noise
        rows = torch.unflatten(inputs, 0, (len(noise_in), -1)) if self._is_folded(inputs) else inputs
        between = (1,) * (rows.ndim - 2)
        noise_in, noise_out = (noise.view(len(noise), *between, -1) for noise in (noise_in, noise_out))
        deviation = nn.functional.linear(rows * noise_in, self.weight_sigma, self.bias_sigma)
        outputs = nn.functional.linear(rows, self.weight_mu, self.bias_mu) + deviation * noise_out
        return outputs.reshape(*inputs.shape[:-1], self.out_features)

    def _is_folded(self, inputs: Tensor) -> bool:
        """Whether inputs are ``[B * N, in_features]``, as ``Dense`` folds them, and not ``[B, ..., in_features]``."""
        num, expected = len(inputs), len(self.row_noise[0]) if self.row_noise is not None else 1
        if num % expected:
            raise ValueError(f"inputs: {num} rows, but noise was drawn for {expected}; call reset_noise({num})")
        return num != expected


def reset_noise(module: nn.Module, *, num_rows: int | None = None) -> None:
    """Draw new noise in every noisy layer of a module, in place.

    Args:
        module: A module with noisy layers.
        num_rows: B, to give each row of inputs its own noise; ``None`` for one draw that all rows share.
    """
    for layer in module.modules():
        if isinstance(layer, NoisyLinear):
            layer.reset_noise(num_rows)
        elif isinstance(layer, _TorchRLNoisyLinear):
            if num_rows is not None:
                raise TypeError(
                    f"num_rows={num_rows}: TorchRL's NoisyLinear has the same noise for all rows; use tm_torchrl's"
                )
            layer.reset_noise()


def is_noisy(module: nn.Module) -> bool:
    """Whether a module contains noisy layers.

    >>> is_noisy(nn.Sequential(nn.Linear(4, 2))), is_noisy(nn.Sequential(NoisyLinear(4, 2)))
    (False, True)
    """
    return any(isinstance(layer, _TorchRLNoisyLinear) for layer in module.modules())
