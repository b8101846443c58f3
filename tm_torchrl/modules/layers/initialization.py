"""First weights of layers."""

from __future__ import annotations

import math

from torch import Tensor, nn

LEAKY_SLOPE = 0.01  # slope for negative inputs, in every hidden layer of the Linesight agent
HIDDEN_GAIN = math.sqrt(2 / (1 + LEAKY_SLOPE**2))


def orthogonal_(module: nn.Module, gain: float = HIDDEN_GAIN) -> None:
    """Orthogonal weights and zero biases in one linear or convolutional layer; other modules stay as they are.

    The gains are those of the Linesight agent: for hidden layers the gain of a leaky ReLU with slope 0.01, for the
    projection of the cosine embedding sqrt(2) times that (a cosine has half the variance of a unit input), and 1 for
    output layers. Noisy layers keep their own initialisation.

    Examples:
        >>> import torch
        >>> layer = nn.Linear(4, 4)
        >>> orthogonal_(layer, 1.0)
        >>> bool((layer.weight @ layer.weight.T - torch.eye(4)).abs().max() < 1e-5)
        True
    """
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)) and isinstance(weight, Tensor):
        nn.init.orthogonal_(weight, gain)
        if bias is not None:
            nn.init.zeros_(bias)
