"""What driving tasks let a network see."""

from __future__ import annotations

import pytest

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task


def test_only_some_floats_are_seen() -> None:
    task = make_task(compose_settings(["env.floats=[velocity,gear]"]))
    arguments = task.network_arguments()
    assert arguments["num_inputs"] == 184  # what the environment delivers and the replay keeps
    assert arguments["normalize"].columns.tolist() == [34, 56, 57, 58]


def test_a_float_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"floats: 'velocty'.*did you mean velocity"):
        make_task(compose_settings(["env.floats=[velocty]"]))
