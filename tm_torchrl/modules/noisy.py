"""Noisy layers whose noise is there when it is wanted: when acting to explore, and inside losses."""

from __future__ import annotations

from torch import nn
from torchrl.modules import NoisyLinear as _TorchRLNoisyLinear


class NoisyLinear(_TorchRLNoisyLinear):
    """TorchRL's factorised noisy layer (Fortunato et al. 2018), constructed as ``nn.Linear`` is.

    The noise is on while actions are explored (``ExplorationType.RANDOM``) and off in evaluation. TorchRL's own losses
    run as if in evaluation, which silently takes the noise out of the training; those of ``tm_torchrl`` do not, and
    draw new noise for the online and for the target network at every call.

    Args:
        in_features: inputs.
        out_features: outputs.
        sigma_init: initial deviation, divided by the square root of the inputs.

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
        super().__init__(in_features, out_features, std_init=sigma_init)


def reset_noise(module: nn.Module) -> None:
    """Draw new noise in every noisy layer of a module, in place."""
    for layer in module.modules():
        if isinstance(layer, _TorchRLNoisyLinear):
            layer.reset_noise()
