"""The state apart from rows: what is left of it when rows are lost."""

from __future__ import annotations

import torch

from tests.data.counting_steps import build, learn, steps
from tm_torchrl.data.saving.buffer_state import state_of_kept_rows, state_without_rows


def test_kept_rows_move_to_the_beginning_with_their_priorities() -> None:
    """60 rows were written to a capacity of 50: rows 10 to 59 are left, row r at position r % 50."""
    buffer = build()
    buffer.extend(steps(30))  # 56 rows
    learn(buffer)
    buffer.extend(steps(2, start=30))
    with buffer._capture_prefetch_state() as prefetched:
        state = state_without_rows(buffer, prefetched)
    positions = [row % 50 for row in [*range(12, 20), *range(54, 60)]]
    kept = state_of_kept_rows(buffer, state, positions)
    assert kept["_writer"] == {"_cursor": 14, "_write_count": 14}
    tree = kept["_sampler"]["tree"]
    assert torch.equal(tree[:14], state["_sampler"]["tree"][positions]) and not tree[14:].any()
    assert torch.equal(kept["_rng"][0], state["_rng"][0])
    assert state_of_kept_rows(buffer, state, [])["_writer"] == {"_cursor": 0, "_write_count": 0}
    everything = state_of_kept_rows(buffer, state, [row % 50 for row in range(10, 60)])
    assert everything["_writer"] == {"_cursor": 0, "_write_count": 50}
