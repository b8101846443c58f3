"""Several observations to features.

Shapes: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tensordict import NestedKey
from torch import Tensor, nn


class MultiEncoder(nn.Module):
    """Features of several observations, side by side: one encoder for each key.

    A further modality is a further entry.

    Args:
        encoders: The encoder of each key, in the order of the arguments; each has ``num_features``, and ``num_dims`` if
            its observation has other than one dimension.
        names: Names of the submodules, for keys that should not be called as they are.

    Examples:
        >>> from tm_torchrl.modules import FloatEncoder, PixelEncoder
        >>> encoder = MultiEncoder({"pixels": PixelEncoder(), "speed": FloatEncoder(1), "lidar": FloatEncoder(19)})
        >>> pixels, speed, lidar = torch.zeros(2, 1, 64, 64, dtype=torch.uint8), torch.zeros(2, 1), torch.zeros(2, 19)
        >>> encoder(pixels, speed, lidar).shape, encoder.in_keys
        (torch.Size([2, 1024]), ['pixels', 'speed', 'lidar'])
    """

    def __init__(
        self, encoders: Mapping[NestedKey, nn.Module], *, names: Mapping[NestedKey, str] | None = None
    ) -> None:
        super().__init__()
        if not encoders:
            raise ValueError("encoders={}: must have at least one entry")
        self.in_keys = list(encoders)
        plain = {key: key if isinstance(key, str) else "_".join(key) for key in encoders}
        self._names = [{**plain, **(names or {})}[key] for key in encoders]
        for name, encoder in zip(self._names, encoders.values(), strict=True):
            self.add_module(name, encoder)
        self.num_features = sum(int(encoder.num_features) for encoder in encoders.values())  # type: ignore[arg-type, misc]
        self.num_dims = [int(getattr(encoder, "num_dims", 1)) for encoder in encoders.values()]

    def forward(self, *observations: Tensor) -> Tensor:
        """``[B, D]`` from observations in the order of ``in_keys``."""
        modules = [self.get_submodule(name) for name in self._names]
        return torch.cat([module(seen) for module, seen in zip(modules, observations, strict=True)], -1)


class PixelFloatEncoder(MultiEncoder):
    """Features of an image and of a vector, side by side.

    Args:
        pixels: The encoder of ``"pixels"``.
        floats: The encoder of ``"observation"``.

    Examples:
        >>> from tm_torchrl.modules import FloatEncoder, PixelEncoder
        >>> encoder = PixelFloatEncoder(PixelEncoder(), FloatEncoder(264))
        >>> encoder(torch.zeros(2, 1, 64, 64, dtype=torch.uint8), torch.zeros(2, 264)).shape
        torch.Size([2, 768])
    """

    def __init__(self, pixels: nn.Module, floats: nn.Module) -> None:
        super().__init__({"pixels": pixels, "observation": floats}, names={"observation": "floats"})
