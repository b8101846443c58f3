"""Fusion of images and floats: after each has been encoded, or as tokens of one transformer.

Shapes: B batch, C channels, H and W pixels, F floats, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.modules.encoders.floats import FloatEncoder, Normalize
from tm_torchrl.modules.fusion.tokens import LAYERS, FloatTokens, PlaceTokens, VectorTokens
from tm_torchrl.modules.layers.arguments import chosen, require_count
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.style import LayerStyle
from tm_torchrl.modules.layers.transformer import ReadoutTransformer

IMAGE_TOKENS = 4  # of PostConcat: rulka's post_concat_seq_len
TRUNKS = ("transformer", "mlp")


@dataclass(frozen=True)
class Floats:
    """The floats that a fusion reads.

    Args:
        num_inputs: F.
        hidden_sizes: The layers of the encoder of floats, where there is one.
        normalize: The first layer; ``None`` for none.
    """

    num_inputs: int
    hidden_sizes: Sequence[int]
    normalize: Normalize | None


class Fusion(nn.Module):
    """Features ``[B, D]`` of an image and a vector; its parts are called ``pixels``, ``floats`` and ``fusion``.

    Attributes:
        num_features: D.
    """

    num_features: int

    def __init__(self, pixels: nn.Module) -> None:
        super().__init__()
        self.in_keys = ["pixels", "observation"]
        self.num_dims = [3, 1]
        self.pixels = pixels

    def embed(self, pixels: Tensor) -> Tensor:
        """What the fusion reads of images ``[B, C, H, W]``: their features, or tokens."""
        features_BD: Tensor = self.pixels(pixels)
        return features_BD


class PostConcat(Fusion):
    """Image and floats are encoded apart; a trunk reads the features of both.

    With ``trunk="mlp"`` it reads them side by side, with ``trunk="transformer"`` as tokens: the image's features are
    projected to ``image_tokens`` tokens, and the floats are a token each or together.

    Args:
        pixels: The encoder of images, convolutional or ``ViTEncoder``.
        floats: What is known of the floats; given by the network.
        style: Activation and first weights; given by the network.
        trunk: ``"transformer"`` or ``"mlp"``.
        size: D, which is the size of a token, and of the trunk's dense layers.
        num_layers: The number of layers of the trunk.
        num_heads: The number of attention heads; ``None`` for 4.
        image_tokens: The number of tokens of an image; ``None`` for 4.
        float_tokens: ``"groups"`` for a token for each named group of floats, ``"one"`` for one; ``None`` for groups.
        floats_through: ``"raw"`` or ``"mlp"``: whether floats pass through layers of their own before the trunk. For
            ``trunk="mlp"`` these are ``hidden_sizes``.
    """

    def __init__(
        self,
        pixels: nn.Module,
        *,
        floats: Floats,
        style: LayerStyle,
        trunk: str = "transformer",
        size: int = 128,
        num_layers: int = 2,
        num_heads: int | None = None,
        image_tokens: int | None = None,
        float_tokens: str | None = None,
        floats_through: str = "mlp",
    ) -> None:
        super().__init__(pixels)
        chosen(trunk, dict.fromkeys(TRUNKS), argument="trunk")
        chosen(floats_through, LAYERS, argument="floats_through")
        require_count(size, argument="size")
        require_count(num_layers, argument="num_layers")
        self.num_features = size
        if trunk == "mlp":
            given = {"num_heads": num_heads, "image_tokens": image_tokens, "float_tokens": float_tokens}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"{name}={value!r}: trunk='mlp' has no tokens; leave it out, or use 'transformer'")
            self.floats: nn.Module = _encoded(floats, floats_through, style)
            num_inputs = int(pixels.num_features) + int(self.floats.num_features)  # type: ignore[arg-type]
            self.fusion: nn.Module = dense([num_inputs, *[size] * num_layers], style=style)
            return
        self.floats = _float_tokens(floats, size, float_tokens, floats_through, style)
        number = IMAGE_TOKENS if image_tokens is None else image_tokens
        self.fusion = _TokenFusion(
            VectorTokens(pixels, num_tokens=number, size=size, style=style),
            ReadoutTransformer(size, num_layers=num_layers, num_heads=_heads(num_heads), style=style),
        )

    def forward(self, pixels: Tensor, floats: Tensor) -> Tensor:
        """``[B, D]`` from pixels ``[B, C, H, W]`` and floats ``[B, F]``."""
        features_BD: Tensor
        if isinstance(self.fusion, _TokenFusion):
            features_BD = self.fusion(self.embed(pixels), self.floats(floats))
        else:
            features_BD = self.fusion(torch.cat([self.embed(pixels), self.floats(floats)], -1))
        return features_BD


class Unified(Fusion):
    """One transformer over the image's patches, or the places of a convolutional map, and the floats' tokens.

    Args:
        pixels: The encoder of images, whose tokens are read: ``ViTEncoder`` or a convolutional one.
        floats: What is known of the floats; given by the network.
        style: Activation and first weights; given by the network.
        size: D, the size of a token.
        num_layers: The number of blocks.
        num_heads: The number of attention heads.
        float_tokens: ``"groups"`` for a token for each named group of floats, ``"one"`` for one; ``None`` for groups.
        floats_through: ``"raw"`` or ``"mlp"``: whether floats pass through layers of their own to become tokens.
    """

    def __init__(
        self,
        pixels: nn.Module,
        *,
        floats: Floats,
        style: LayerStyle,
        size: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        float_tokens: str | None = None,
        floats_through: str = "raw",
    ) -> None:
        super().__init__(pixels)
        require_count(size, argument="size")
        self.num_features = size
        self.floats = _float_tokens(floats, size, float_tokens, floats_through, style)
        self.fusion = _TokenFusion(
            PlaceTokens(pixels, size=size, style=style),
            ReadoutTransformer(size, num_layers=num_layers, num_heads=num_heads, style=style),
        )

    def embed(self, pixels: Tensor) -> Tensor:
        """The tokens of images ``[B, C, H, W]``."""
        encoder: Any = self.pixels
        tokens_BTM: Tensor = encoder.tokens(pixels)
        return tokens_BTM

    def forward(self, pixels: Tensor, floats: Tensor) -> Tensor:
        """``[B, D]`` from pixels ``[B, C, H, W]`` and floats ``[B, F]``."""
        features_BD: Tensor = self.fusion(self.embed(pixels), self.floats(floats))
        return features_BD


class _TokenFusion(nn.Module):
    """Tokens of the image, made from its features, and those of the floats, through a transformer."""

    def __init__(self, image_tokens: nn.Module, transformer: ReadoutTransformer) -> None:
        super().__init__()
        self.image_tokens = image_tokens
        self.transformer = transformer

    def forward(self, image: Tensor, floats_BTM: Tensor) -> Tensor:
        features_BD: Tensor = self.transformer(torch.cat([self.image_tokens(image), floats_BTM], 1))
        return features_BD


class _Plain(nn.Module):
    """The floats themselves, normalised."""

    def __init__(self, floats: Floats) -> None:
        super().__init__()
        self.normalize = floats.normalize
        self.num_features = floats.num_inputs if floats.normalize is None else floats.normalize.num_outputs

    def forward(self, floats_BF: Tensor) -> Tensor:
        return floats_BF if self.normalize is None else self.normalize(floats_BF)


def _encoded(floats: Floats, through: str, style: LayerStyle) -> nn.Module:
    if through == "raw":
        return _Plain(floats)
    return FloatEncoder(floats.num_inputs, hidden_sizes=floats.hidden_sizes, normalize=floats.normalize, style=style)


def _float_tokens(floats: Floats, size: int, split: str | None, through: str, style: LayerStyle) -> FloatTokens:
    has_groups = floats.normalize is not None and bool(floats.normalize.groups)
    split = split or ("groups" if has_groups else "one")
    return FloatTokens(
        floats.num_inputs, size=size, split=split, layers=through, normalize=floats.normalize, style=style
    )


def _heads(num_heads: int | None) -> int:
    return 4 if num_heads is None else num_heads


FUSIONS: dict[str, Callable[..., Fusion]] = {"post_concat": PostConcat, "unified": Unified}
