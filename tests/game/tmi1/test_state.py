"""Reading a state from shared memory gives a whole state or a typed error."""

from __future__ import annotations

import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.game.state_layout import check_state, new_state
from tm_torchrl.game.tmi1.channel import CONTENT, SIZE, Channel
from tm_torchrl.game.tmi1.messages import Kind
from tm_torchrl.game.tmi1.state import read_state


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 8400), st.sampled_from([0, 1, 3, 10_000]))
def test_any_bytes_are_a_state_or_a_protocol_error(noise: bytes, at: int, num_checkpoints: int) -> None:
    memory = Channel(f"test_{os.getpid()}_{time.monotonic_ns()}", is_server=True)
    try:
        whole = bytes(new_state(num_checkpoints=num_checkpoints))[: SIZE - CONTENT]
        memory.write(Kind.RESPONSE, whole)
        memory.memory[CONTENT + at : CONTENT + at + len(noise)] = noise
        try:
            state = read_state(memory)
        except ProtocolError:
            return
        check_state(state)
    finally:
        memory.close()
