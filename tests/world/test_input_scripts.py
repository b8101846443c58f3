"""Input scripts: reading, writing, round trips, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_torchrl.world.actions import ACTIONS
from tm_torchrl.world.input_scripts import actions_of, keys_of, parse_script, read_script, script_of


def test_a_script_says_when_keys_are_held() -> None:
    # 0 gas, 2 gas and right, 6 brake; each 50 ms.
    assert script_of(np.array([0, 2, 2, 6, 0])).splitlines() == [
        "0.00-0.15 press up",
        "0.05-0.15 press right",
        "0.15-0.20 press down",
        "0.20-0.25 press up",
    ]
    assert script_of(np.array([[3, 0, 0, 3, 3]])) == "0.01-0.03 press up"
    assert script_of(np.array([3, 3])) == ""


@given(st.lists(st.integers(0, 11), min_size=1, max_size=60))
def test_actions_survive_a_round_trip(actions: list[int]) -> None:
    drive = np.array([*actions, 0])  # gas at the end, so that the script knows how long the drive is
    assert actions_of(parse_script(script_of(drive))).tolist() == drive.tolist()


@given(st.lists(st.lists(st.integers(0, 11), min_size=5, max_size=5), min_size=1, max_size=30))
def test_keys_of_blocks_survive_a_round_trip(blocks: list[list[int]]) -> None:
    drive = np.array([*blocks, [0] * 5])
    keys = parse_script(script_of(drive))
    assert (keys == keys_of(drive)).all()
    assert (keys_of(actions_of(keys)) == keys).all()


def test_the_forms_of_times_and_commands() -> None:
    lines = ["# a lap", "set speed 10", "0 press up # gas", "1:00.02-1:00.04 press down; 60000 rel up"]
    keys = parse_script("\n".join([*lines, "0.00 set speed 2", "10 press enter"]))
    assert len(keys) == 6004
    assert keys[:6000, 0].all()
    assert not keys[6000:, 0].any()
    assert np.flatnonzero(keys[:, 1]).tolist() == [6002, 6003]
    # 1.1 s is 110 ticks, 110 without a point is 110 ms; the order of lines decides at the same time.
    assert len(parse_script("1.1 press up")) == 110
    assert len(parse_script("110 press up")) == 11
    assert parse_script("0 press up\n0 rel up\n0.01 press up\n0.02 rel up")[:, 0].tolist() == [False, True]


def test_left_and_right_cancel_out() -> None:
    both = parse_script("0-0.05 press left\n0-0.05 press right\n0-0.05 press up")
    assert [ACTIONS[i].gas for i in actions_of(both)] == [True]
    assert actions_of(both).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^test has no inputs"),
        ("set speed 1", "^test has no inputs"),
        ("0.00 steer 65536", "test, line 1: '0.00 steer 65536' .*analogue"),
        ("\n0.00 press jump", "test, line 2: key 'jump'"),
        ("0.005 press up", r"'0\.005' .*ticks"),
        ("1.2.3 press up", r"'1\.2\.3' .*time"),
        ("1" + ":0" * 400 + " press up", "'1:0:0:.*' is not a time"),
        ("9" * 400 + ".0 press up", "'999.*' is not a time"),
        ("2-1 press up", "'2' .*ticks"),
        ("20-10 press up", "'20-10 press up' ends before"),
        ("99999999.00 press up", r"'99999999\.00' .*hour"),
        ("0.00 press", r"'0\.00 press' .*input"),
    ],
)
def test_errors_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_script(text, name="test")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.inputs"
    path.write_bytes("\ufeff0.00-0.10 press up\r\n".encode())  # as Windows writes it
    assert read_script(path).tolist() == [0, 0]
    path.write_bytes(b"\xff\xfe0")
    with pytest.raises(ValueError, match=r"a\.inputs .*text"):
        read_script(path)


@settings(max_examples=40)
@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        keys = parse_script(text)
    except ValueError:
        return
    assert keys.shape[1] == 4
