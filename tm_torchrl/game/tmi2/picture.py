"""The game's pictures in grey."""

from __future__ import annotations

import numpy as np


def grey_of(picture: bytes, *, width: int, height: int) -> np.ndarray:
    """Grey levels of a picture in blue, green, red and alpha, uint8 ``[height, width]``; grey pixels keep their level.

    >>> grey_of(bytes([9, 9, 9, 255, 0, 255, 0, 255]), width=2, height=1).tolist()  # 150 / 256 of 255, rounded
    [[9, 149]]
    """
    blue, green, red, _ = (
        np.frombuffer(picture, np.uint8).reshape(height, width, 4).transpose(2, 0, 1).astype(np.uint16)
    )
    # ITU-R BT.601's weights 0.114, 0.587, 0.299 in 256ths, which sum to 256.
    grey: np.ndarray = (29 * blue + 150 * green + 77 * red + 128) >> 8
    return grey.astype(np.uint8)
