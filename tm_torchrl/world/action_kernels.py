"""Decodes actions inside kernels; the simulator and the sensors share it."""

import warp as wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def keys_of(action: int) -> wp.vec4:
    """Gas, brake, left and right of an action of the table ``ACTIONS``: 1 while the key is held, else 0."""
    way = action % 3
    return wp.vec4(
        wp.where(action < 3 or action >= 9, 1.0, 0.0),
        wp.where(action >= 6, 1.0, 0.0),
        wp.where(way == 1, 1.0, 0.0),
        wp.where(way == 2, 1.0, 0.0),
    )
