"""Transformer blocks over tokens, without dropout: the same numbers in training and in evaluation.

Shapes: B batch, T tokens, M the size of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.style import DEFAULT_STYLE, LayerStyle

POSITION_DEVIATION = 0.02  # first deviation of learned tokens and positions: Devlin et al. 2019
FEED_FORWARD = 4  # units of the feed-forward layer for each number of a token: Vaswani et al. 2017


class Transformer(nn.Module):
    """Blocks of self-attention and feed-forward layers, each on normalised tokens and added to them.

    torch's own encoder layer computes other numbers in evaluation than in training, so it is not used.

    Args:
        size: M.
        num_layers: The number of blocks; 0 for the norm alone.
        num_heads: The number of attention heads, which must divide M.
        style: Activation of the feed-forward layers, and first weights.
        is_normalised: Whether the tokens are normalised at the end.

    Examples:
        >>> Transformer(16, num_layers=2)(torch.zeros(3, 5, 16)).shape
        torch.Size([3, 5, 16])
    """

    def __init__(
        self,
        size: int,
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        style: LayerStyle = DEFAULT_STYLE,
        is_normalised: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("size", size), ("num_heads", num_heads)):
            require_count(value, argument=name)
        if num_layers:
            require_count(num_layers, argument="num_layers")
        if size % num_heads:
            fitting = [heads for heads in range(1, size + 1) if size % heads == 0 and heads <= 16]
            raise ValueError(
                f"num_heads={num_heads}: must divide the size of a token, {size}; give one of "
                f"{', '.join(map(str, fitting))}"
            )
        self.blocks = nn.ModuleList(_Block(size, num_heads, style) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size) if is_normalised else nn.Identity()

    def forward(self, tokens_BTM: Tensor, *, num_read: int | None = None) -> Tensor:
        """``[B, T, M]``; with ``num_read`` that many of the first tokens, and the last block computes no others."""
        for block in self.blocks[:-1]:
            tokens_BTM = block(tokens_BTM)
        for block in self.blocks[-1:]:
            tokens_BTM = block(tokens_BTM, num_read=num_read)
        normal: Tensor = self.norm(tokens_BTM[:, :num_read])
        return normal


class _Block(nn.Module):
    def __init__(self, size: int, num_heads: int, style: LayerStyle) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.seen = nn.Linear(size, 3 * size, bias=False)  # queries, keys, values; attention cancels the keys' bias
        self.output = nn.Linear(size, size)
        style.initialize(self.seen, 1.0)
        style.initialize(self.output, 1.0)
        plain = LayerStyle(style.activation, initialization=style.initialization)
        self.layers = dense([size, FEED_FORWARD * size, size], output_gain=1.0, style=plain)

    def forward(self, tokens_BTM: Tensor, *, num_read: int | None = None) -> Tensor:
        normal, size = self.attention_norm(tokens_BTM), tokens_BTM.shape[-1]
        queries = F.linear(normal[:, :num_read], self.seen.weight[:size])
        keys, values = F.linear(normal, self.seen.weight[size:]).chunk(2, -1)
        attended = F.scaled_dot_product_attention(self._heads(queries), self._heads(keys), self._heads(values))
        tokens_BTM = tokens_BTM[:, :num_read] + self.output(attended.transpose(1, 2).flatten(2))
        added: Tensor = tokens_BTM + self.layers(self.norm(tokens_BTM))
        return added

    def _heads(self, tokens_BTM: Tensor) -> Tensor:
        """``[B, heads, T, M / heads]``."""
        return torch.unflatten(tokens_BTM, -1, (self.num_heads, -1)).transpose(1, 2)


class ReadoutTransformer(nn.Module):
    """A transformer whose output is read at one more token, the sum of the others: ``[B, T, M]`` to ``[B, M]``.

    A learned token alone, and a norm at the end, make features in which what all states share is far larger than what
    tells them apart: agents then took the same action in all states and stood (measured).

    Args:
        size: M.
        num_layers: The number of blocks, 1 or more.
        num_heads: The number of attention heads, which must divide M.
        style: Activation of the feed-forward layers, and first weights.

    Examples:
        >>> ReadoutTransformer(16)(torch.zeros(3, 5, 16)).shape
        torch.Size([3, 16])
    """

    def __init__(
        self, size: int, *, num_layers: int = 2, num_heads: int = 4, style: LayerStyle = DEFAULT_STYLE
    ) -> None:
        super().__init__()
        require_count(num_layers, argument="num_layers")
        self.transformer = Transformer(
            size, num_layers=num_layers, num_heads=num_heads, style=style, is_normalised=False
        )
        self.readout = nn.Parameter(POSITION_DEVIATION * torch.randn(1, 1, size))

    def forward(self, tokens_BTM: Tensor) -> Tensor:
        """``[B, M]``."""
        sum_B1M = tokens_BTM.sum(1, keepdim=True) * tokens_BTM.shape[1] ** -0.5
        readout = sum_B1M + self.readout.to(tokens_BTM.dtype)
        read: Tensor = self.transformer(torch.cat([readout, tokens_BTM], 1), num_read=1)[:, 0]
        return read


class TokenStream(nn.Module):
    """Features cut into tokens, transformer blocks over them, and the mean of the tokens: ``[R, D]`` to ``[R, M]``.

    Args:
        num_features: D, a multiple of M, at least twice M.
        size: M.
        num_layers: The number of blocks.
        num_heads: The number of attention heads, which must divide M.
        style: Activation of the feed-forward layers, and first weights.

    Examples:
        >>> TokenStream(64, size=16)(torch.zeros(3, 64)).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        num_features: int,
        *,
        size: int = 64,
        num_layers: int = 1,
        num_heads: int = 4,
        style: LayerStyle = DEFAULT_STYLE,
    ) -> None:
        super().__init__()
        require_count(size, argument="size")
        require_count(num_layers, argument="num_layers")
        if num_features % size or num_features == size:
            fitting = [each for each in (8, 16, 32, 64, 128) if num_features % each == 0 and each < num_features]
            hint = f"give size={' or '.join(map(str, fitting))}" if fitting else "use 'mlp'"
            raise ValueError(
                f"size={size}: the {num_features} features cannot be cut into two or more tokens of {size}; {hint}, or "
                "another number of features (hidden_sizes, fusion.size)"
            )
        self.size = size
        # Tokens are parts of one vector: without a position of their own they would be told apart by nothing.
        self.position = nn.Parameter(POSITION_DEVIATION * torch.randn(num_features // size, size))
        self.transformer = Transformer(size, num_layers=num_layers, num_heads=num_heads, style=style)

    def forward(self, features_RD: Tensor) -> Tensor:
        """``[R, M]``."""
        tokens_RTM = torch.unflatten(features_RD, -1, (-1, self.size)) + self.position
        mean: Tensor = self.transformer(tokens_RTM).mean(1)
        return mean
