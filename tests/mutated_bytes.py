"""Valid bytes with a few places changed, for tests of decoders."""

from __future__ import annotations

import random
from struct import Struct

_INT = Struct("<i")
_ODD = (0, -1, 1, 2, 5, 2**31 - 1, -(2**31), 8404)


def mutated(content: bytes, generator: random.Random, *, more: bytes = b"") -> bytes:
    """A few bytes or whole numbers changed, put in, taken out, or all from somewhere on.

    Args:
        content: valid.
        generator: draws.
        more: valid content of another kind, a stretch of which may be put in.
    """
    changed = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        if not changed:
            break
        at = generator.randrange(len(changed))
        kind = generator.randrange(6 if more else 5)
        if kind == 0:
            changed[at] = generator.randrange(256)
        elif kind == 1:
            at -= at % 4
            changed[at : at + 4] = _INT.pack(generator.choice(_ODD))
        elif kind == 2:
            changed[at:at] = generator.randbytes(generator.randint(1, 12))
        elif kind == 3:
            del changed[at : at + generator.randint(1, 12)]
        elif kind == 4:
            changed[at:] = generator.randbytes(generator.randint(0, 300))
        else:
            begin = generator.randrange(len(more))
            changed[at:at] = more[begin : begin + generator.randint(1, 40)]
    return bytes(changed)
