"""States apart from rows: what is left of them when rows are lost."""

from __future__ import annotations

import torch

from tests.data.saving.logged_buffer import build, learn, steps
from tm_torchrl.data.saving.buffer_state import close_ranks, state_without_rows


def test_ranks_close_behind_lost_rows() -> None:
    """60 rows went into room for 50: 10 to 59 are left, row r at r % 50. The learner had seen 56 of them."""
    buffer = build(shared=True)
    buffer.extend(steps(30))  # 56 rows
    learn(buffer)
    buffer.extend(steps(2, start=30))
    with buffer._capture_prefetch_state() as ahead:
        state = state_without_rows(buffer, ahead)
    rows = [*range(12, 20), *range(54, 60)]  # 8 that were seen, 2 that were seen, 4 that were not
    positions = [row % 50 for row in rows]
    closed = close_ranks(buffer, state, positions)
    assert closed["_writer"] == {"_cursor": 14, "_write_count": 14}
    assert closed["_prioritized_sampler_write_count"] == 10
    tree = closed["_prioritized_sampler"]["tree"]
    assert torch.equal(tree[:14], state["_prioritized_sampler"]["tree"][positions]) and not tree[14:].any()
    assert torch.equal(closed["_rng"][0], state["_rng"][0])


def test_all_rows_may_be_lost_or_left() -> None:
    buffer = build()
    buffer.extend(steps(30))
    with buffer._capture_prefetch_state() as ahead:
        state = state_without_rows(buffer, ahead)
    assert close_ranks(buffer, state, [])["_writer"] == {"_cursor": 0, "_write_count": 0}
    everything = close_ranks(buffer, state, [row % 50 for row in range(6, 56)])
    assert everything["_writer"] == {"_cursor": 0, "_write_count": 50}
