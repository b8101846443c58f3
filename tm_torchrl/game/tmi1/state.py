"""Reads a game's state from shared memory, where no length is sent: the state's own counts determine it."""

from __future__ import annotations

from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.game.state_layout import HEAD_BYTES, SMALLEST, check_state
from tm_torchrl.game.tmi1.channel import CONTENT, Channel
from tm_torchrl.game.tmi1.messages import INT

_STATES_AT = HEAD_BYTES - 4


def read_state(memory: Channel) -> bytes:
    """The whole state in the content of the present message, checked."""
    room = memory.size - CONTENT - SMALLEST
    (num_states,) = INT.unpack(memory.read(INT.size, at=_STATES_AT))
    if not 0 <= 4 * num_states <= room:
        raise ProtocolError(f"the state has {num_states} checkpoints: the stream is out of step")
    (num_times,) = INT.unpack(memory.read(INT.size, at=HEAD_BYTES + 4 * num_states))
    if not 0 <= 8 * num_times <= room - 4 * num_states:
        raise ProtocolError(f"the state has {num_times} checkpoint times: the stream is out of step")
    state = memory.read(SMALLEST + 4 * num_states + 8 * num_times)
    check_state(state)
    return state
