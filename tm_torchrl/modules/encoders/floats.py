"""From a vector of floats to features.

Shapes: B batch, F floats, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.arguments import require_count, require_sizes
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.style import DEFAULT_STYLE, LayerStyle


class Normalize(nn.Module):
    """``(x - mean) / scale`` with fixed constants, as a network's first layer.

    Args:
        mean: One value for each input.
        scale: One positive value for each input.
        columns: Indices of the inputs that the network sees; ``None`` for all of them.
        groups: Names of neighbouring inputs, with the number of each, in order: for a token of each group in a fusion.
            Inputs behind them are a group of their own.

    Examples:
        >>> Normalize([1.0, 2.0], [1.0, 4.0])(torch.tensor([2.0, 4.0]))
        tensor([1.0000, 0.5000])
        >>> Normalize([1.0, 2.0], [1.0, 4.0], columns=[1])(torch.tensor([2.0, 4.0]))
        tensor([0.5000])
    """

    mean: Tensor
    scale: Tensor
    columns: Tensor | None

    def __init__(
        self,
        mean: Sequence[float] | Tensor,
        scale: Sequence[float] | Tensor,
        *,
        columns: Sequence[int] | None = None,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        mean, scale = (torch.as_tensor(x, dtype=torch.float32).clone() for x in (mean, scale))
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise ValueError(f"mean {tuple(mean.shape)}, scale {tuple(scale.shape)}: must be vectors of the same size")
        if not bool((scale > 0).all()):
            raise ValueError(f"scale[{int((scale > 0).int().argmin())}]={float(scale.min())}: must be positive")
        if columns is not None and not (columns and all(0 <= column < len(mean) for column in columns)):
            raise ValueError(f"columns={list(columns)}: must be one or more indices in 0..{len(mean) - 1}")
        if groups and not (all(size > 0 for size in groups.values()) and sum(groups.values()) <= len(mean)):
            raise ValueError(f"groups={groups}: must be positive, and at most {len(mean)} in all")
        self.groups = dict(groups or {})
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)

    @property
    def num_outputs(self) -> int:
        """The number of inputs that the network sees."""
        return len(self.mean if self.columns is None else self.columns)

    @property
    def seen_groups(self) -> dict[str, int]:
        """The groups with the number of inputs that the network sees of each; without those of which it sees none.

        >>> groups = {"speed": 1, "velocity": 3}
        >>> Normalize([0.0] * 5, [1.0] * 5, columns=[2, 3, 4], groups=groups).seen_groups
        {'velocity': 2, 'others': 1}
        """
        if not self.groups:
            return {}
        names = [name for name, size in self.groups.items() for _ in range(size)]
        names += ["others"] * (len(self.mean) - len(names))
        seen = names if self.columns is None else [names[column] for column in self.columns.tolist()]
        return {name: seen.count(name) for name in dict.fromkeys(seen)}

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values, without the hidden columns."""
        normal = (values - self.mean) / self.scale
        return normal if self.columns is None else normal.index_select(-1, self.columns)


class FloatEncoder(nn.Module):
    """Dense layers over a vector observation.

    Args:
        num_inputs: F.
        hidden_sizes: The size of each layer; the last one is D.
        normalize: The first layer; ``None`` for none.
        style: Activation, normalisation, kind of layer and first weights.

    Examples:
        >>> FloatEncoder(184)(torch.zeros(2, 184)).shape
        torch.Size([2, 256])
    """

    num_dims = 1

    def __init__(
        self,
        num_inputs: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        normalize: Normalize | None = None,
        style: LayerStyle = DEFAULT_STYLE,
    ) -> None:
        super().__init__()
        require_count(num_inputs, argument="num_inputs")
        require_sizes(hidden_sizes, argument="hidden_sizes")
        if normalize is not None and len(normalize.mean) != num_inputs:
            raise ValueError(
                f"num_inputs={num_inputs}: normalize has {len(normalize.mean)} constants; give one for each input"
            )
        self.num_features = hidden_sizes[-1]
        self.normalize = normalize
        num_seen = num_inputs if normalize is None else normalize.num_outputs
        self.layers = dense([num_seen, *hidden_sizes], style=style)

    def forward(self, floats_BF: Tensor) -> Tensor:
        """``[B, D]``."""
        return self.layers(floats_BF if self.normalize is None else self.normalize(floats_BF))
