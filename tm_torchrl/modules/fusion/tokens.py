"""Floats and images as tokens of one size, for a transformer that reads both.

Shapes: B batch, F floats, D features, T tokens, M the size of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.modules.encoders.floats import Normalize
from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.layers.arguments import chosen, require_count
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.style import LayerStyle
from tm_torchrl.modules.layers.transformer import POSITION_DEVIATION

LAYERS = {"raw": 1, "mlp": 2}  # from the floats of a token to the token
SPLITS = ("groups", "one")
MOST_TOKENS = 1024  # attention costs the square of their number


class FloatTokens(nn.Module):
    """Tokens from a vector of floats: one for all of them, or one for each of their named groups.

    Args:
        num_inputs: F.
        size: M.
        split: ``"groups"`` for a token for each group of ``normalize``, ``"one"`` for one token.
        layers: ``"raw"`` for one layer from floats to token, ``"mlp"`` for two with an activation between them.
        normalize: The first layer, which knows the groups; ``None`` for none.
        style: Activation and first weights.

    Examples:
        >>> groups = {"speed": 1, "velocity": 3}
        >>> normalize = Normalize([0.0] * 4, [1.0] * 4, groups=groups)
        >>> FloatTokens(4, size=16, split="groups", layers="raw", normalize=normalize, style=LayerStyle())(
        ...     torch.zeros(2, 4)
        ... ).shape
        torch.Size([2, 2, 16])
    """

    num_dims = 1

    def __init__(
        self, num_inputs: int, *, size: int, split: str, layers: str, normalize: Normalize | None, style: LayerStyle
    ) -> None:
        super().__init__()
        require_count(num_inputs, argument="num_inputs")
        num_layers = chosen(layers, LAYERS, argument="floats_through")
        chosen(split, dict.fromkeys(SPLITS), argument="float_tokens")
        self.normalize = normalize
        num_seen = num_inputs if normalize is None else normalize.num_outputs
        groups = {} if normalize is None else normalize.seen_groups
        if split == "groups" and not groups:
            raise ValueError(
                "float_tokens='groups': the floats of this task have no names; use float_tokens='one', or give "
                "Normalize their groups"
            )
        self.sizes = list(groups.values()) if split == "groups" else [num_seen]
        self.num_tokens = len(self.sizes)
        sizes = [[each, *[size] * num_layers] for each in self.sizes]
        self.layers = nn.ModuleList(dense(each, output_gain=1.0, style=style) for each in sizes)

    def forward(self, floats_BF: Tensor) -> Tensor:
        """``[B, T, M]``."""
        normal = floats_BF if self.normalize is None else self.normalize(floats_BF)
        parts = normal.split(self.sizes, -1)
        return torch.stack([layer(part) for layer, part in zip(self.layers, parts, strict=True)], 1)


class VectorTokens(nn.Module):
    """An encoder's features, projected to a few tokens: ``[B, D]`` to ``[B, T, M]``.

    Args:
        encoder: Makes features ``[B, D]``.
        num_tokens: T.
        size: M.
        style: First weights.
    """

    def __init__(self, encoder: nn.Module, *, num_tokens: int, size: int, style: LayerStyle) -> None:
        super().__init__()
        require_count(num_tokens, argument="image_tokens")
        encoder_features: Any = encoder.num_features
        self.num_tokens = num_tokens
        self.project = nn.Linear(encoder_features, num_tokens * size)
        style.initialize(self.project, 1.0)

    def forward(self, features_BD: Tensor) -> Tensor:
        """``[B, T, M]``."""
        return torch.unflatten(self.project(features_BD), -1, (self.num_tokens, -1))


class PlaceTokens(nn.Module):
    """An encoder's tokens (patches, or places of its last map), projected and with a learned position.

    Args:
        encoder: Makes tokens.
        size: M.
        style: First weights.
    """

    def __init__(self, encoder: nn.Module, *, size: int, style: LayerStyle) -> None:
        super().__init__()
        if not isinstance(encoder, ImageEncoder):
            raise ValueError(
                f"image={type(encoder).__name__}: fusion='unified' reads tokens; use an ImageEncoder, or "
                "fusion='post_concat'"
            )
        self.num_tokens = encoder.num_tokens
        if self.num_tokens > MOST_TOKENS:
            raise ValueError(
                f"image={type(encoder).__name__}: makes {self.num_tokens} tokens; fusion='unified' takes at most "
                f"{MOST_TOKENS}, so use larger patches, pooling, or fusion='post_concat'"
            )
        self.project = nn.Linear(encoder.token_size, size)
        style.initialize(self.project, 1.0)
        self.position = nn.Parameter(POSITION_DEVIATION * torch.randn(self.num_tokens, size))

    def forward(self, places: Tensor) -> Tensor:
        """``[B, T, M]`` from an encoder's tokens."""
        tokens_BTM: Tensor = self.project(places) + self.position
        return tokens_BTM
