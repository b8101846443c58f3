"""Noisy layers whose noise is on where it is needed: when an actor explores, and inside losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
        self.row_noise: Tensor | None = None  # [B, in + out]
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
            self.row_noise = self.draw_factors(num_rows)

    def draw_factors(self, num_rows: int) -> Tensor:
        """Factors of noise for rows of inputs, ``[B, in + out]``."""
        of_inputs = self._scale_noise((num_rows, self.in_features))
        return torch.cat([of_inputs, self._scale_noise((num_rows, self.out_features))], -1)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``."""
        if self.row_noise is None or not self._should_use_noise():
            return super().forward(inputs)
        rows = torch.unflatten(inputs, 0, (len(self.row_noise), -1)) if self._is_folded(inputs) else inputs
        noise = self.row_noise.view(len(self.row_noise), *(1,) * (rows.ndim - 2), -1)
        noise_in, noise_out = torch.split(noise, [self.in_features, self.out_features], -1)
        deviation = nn.functional.linear(rows * noise_in, self.weight_sigma, self.bias_sigma)
        outputs = nn.functional.linear(rows, self.weight_mu, self.bias_mu) + deviation * noise_out
        return outputs.reshape(*inputs.shape[:-1], self.out_features)

    def _is_folded(self, inputs: Tensor) -> bool:
        """Whether inputs are ``[B * N, in_features]``, as ``Dense`` folds them, and not ``[B, ..., in_features]``."""
        num, expected = len(inputs), len(self.row_noise) if self.row_noise is not None else 1
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


def draw_factors(module: nn.Module, num_rows: int) -> Tensor:
    """Factors of noise for all ``NoisyLinear`` layers of a module, ``[B, K]``, which ``row_noise`` takes.

    Args:
        module: A module with such layers.
        num_rows: B.
    """
    return torch.cat([layer.draw_factors(num_rows) for layer in _layers(module)], -1)


@contextlib.contextmanager
def row_noise(module: nn.Module, noise_BK: Tensor, *, scale_B: Tensor | None = None) -> Iterator[None]:
    """Give each row of inputs its own noise inside; afterwards the noise is as before.

    Args:
        module: A module with ``NoisyLinear`` layers.
        noise_BK: Factors from ``draw_factors``.
        scale_B: Multiplies the noise of each row in every layer.
    """
    layers = _layers(module)
    before = [layer.row_noise for layer in layers]
    sizes = [layer.in_features + layer.out_features for layer in layers]
    for layer, noise in zip(layers, torch.split(noise_BK, sizes, -1), strict=True):
        if scale_B is not None:  # the factors of outputs multiply weights and biases
            of_inputs, of_outputs = torch.split(noise, [layer.in_features, layer.out_features], -1)
            noise = torch.cat([of_inputs, of_outputs * scale_B.unsqueeze(-1)], -1)
        layer.row_noise = noise
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.row_noise = own


def _layers(module: nn.Module) -> list[NoisyLinear]:
    return [layer for layer in module.modules() if isinstance(layer, NoisyLinear)]


def is_noisy(module: nn.Module) -> bool:
    """Whether a module contains noisy layers.

    >>> is_noisy(nn.Sequential(nn.Linear(4, 2))), is_noisy(nn.Sequential(NoisyLinear(4, 2)))
    (False, True)
    """
    return any(isinstance(layer, _TorchRLNoisyLinear) for layer in module.modules())
