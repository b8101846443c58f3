"""The layers after an image encoder's last convolution, which flatten its map or make it smaller."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tm_torchrl.modules.layers.arguments import chosen

DEFAULT_SIZE = 6  # BTR

_POOLS: dict[str, Callable[[int], nn.Module] | None] = {
    "flatten": None,
    "max": nn.AdaptiveMaxPool2d,
    "average": nn.AdaptiveAvgPool2d,
    "global_average": nn.AdaptiveAvgPool2d,
}


def pooling_layers(pooling: str, *, pool_size: int | None, map_size: int, channels: int) -> tuple[list[nn.Module], int]:
    """The pooling layers, of which the last flattens, and the number of their features.

    Args:
        pooling: ``"flatten"`` (every pixel of the map), ``"max"`` (adaptive maximum: BTR), ``"average"`` (adaptive
            average), or ``"global_average"`` (one number for each channel: Impoola, Trumpp et al. 2025).
        pool_size: The edge of the map that ``"max"`` and ``"average"`` leave; ``None`` for 6.
        map_size: The edge of the last convolution's map.
        channels: The number of channels of that map.

    Examples:
        >>> pooling_layers("max", pool_size=None, map_size=8, channels=64)
        ([AdaptiveMaxPool2d(output_size=6), Flatten(start_dim=1, end_dim=-1)], 2304)
    """
    pool = chosen(pooling, _POOLS, argument="pooling")
    takes_size = pooling in ("max", "average")
    if pool_size is not None and not takes_size:
        raise ValueError(f"pool_size={pool_size}: pooling={pooling!r} takes no size; leave it out")
    if pool is None:
        return [nn.Flatten()], channels * map_size * map_size
    size = 1 if not takes_size else DEFAULT_SIZE if pool_size is None else pool_size
    if not isinstance(size, int) or not 1 <= size <= map_size:
        raise ValueError(
            f"pool_size={size}: the last convolution leaves a map of {map_size} x {map_size}; give 1 to {map_size}, "
            "larger images, or pooling='flatten'"
        )
    return [pool(size), nn.Flatten()], channels * size * size
