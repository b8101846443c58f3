"""Initial weights."""

from __future__ import annotations

import math

from torch import Tensor, nn

LEAKY_SLOPE = 0.01  # of the negative side, in every hidden layer of the Linesight agent
HIDDEN_GAIN = math.sqrt(2 / (1 + LEAKY_SLOPE**2))


def orthogonal_(module: nn.Module, gain: float = HIDDEN_GAIN) -> None:
    """Orthogonal weights and zero biases in one linear or convolutional layer; other modules stay as they are.

    The gains of the Linesight agent: that of a leaky ReLU with slope 0.01 for hidden layers, sqrt(2) times it for the
    projection of the cosine embedding (a cosine has half the variance of a unit input), 1 for output layers. Every
    class that takes ``initialization`` calls it with a layer and the gain of its place; ``None`` there leaves torch's
    own initialisation. Noisy layers have their own.

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
