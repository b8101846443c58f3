"""A game's state as it stands in shared memory, where no length is told: the state's own numbers say it."""

from __future__ import annotations

from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.game.state_layout import HEAD_BYTES, SMALLEST, check_state
from tm_torchrl.game.tmi1.channel import CONTENT, Channel
from tm_torchrl.game.tmi1.messages import INT

_STATES_AT = HEAD_BYTES - 4


def read_state(memory: Channel) -> bytes:
    """The whole state in the content of the message that is there; checked.

    Args:
        memory: which holds it.
    """
    room = memory.size - CONTENT - SMALLEST
    (num_states,) = INT.unpack(memory.read(INT.size, at=_STATES_AT))
    if not 0 <= 4 * num_states <= room:
        raise ProtocolError(f"a state that tells of {num_states} checkpoints: out of step")
    (num_times,) = INT.unpack(memory.read(INT.size, at=HEAD_BYTES + 4 * num_states))
    if not 0 <= 8 * num_times <= room - 4 * num_states:
        raise ProtocolError(f"a state that tells of {num_times} checkpoint times: out of step")
    state = memory.read(SMALLEST + 4 * num_states + 8 * num_times)
    check_state(state)
    return state
