"""The settings of a run as a whole, from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.trainers.options import RunOptions

SETTINGS = compose_settings()


def test_options_come_from_the_top_of_the_settings() -> None:
    options = RunOptions.of({**SETTINGS, "total_frames": 2e3, "seed": 7, "name": "mine"})
    assert (options.total_frames, options.seed, options.name, options.resume) == (2_000, 7, "mine", None)
    assert options.live is False


@pytest.mark.parametrize(("given", "resume"), [(Path("runs") / "a", str(Path("runs") / "a")), (3, "3"), (None, None)])
def test_a_run_folder_may_be_a_path_or_a_number(given: Any, resume: str | None) -> None:
    """Several runs at once have folders named 0, 1, ..."""
    assert RunOptions.of({**SETTINGS, "resume": given}).resume == resume


@pytest.mark.parametrize(
    ("name", "value"),
    [("total_frames", 0), ("max_minutes", 0), ("seed", 2**31), ("num_threads", 1_025), ("schedule_speed", 0.0),
     ("resume", ""), ("resume", True), ("seed", "one"), ("live", 0), ("live", 65_536), ("live", "yes")],
)  # fmt: skip
def test_a_wrong_option_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}="):
        RunOptions.of({**SETTINGS, name: value})


def test_a_missing_option_is_named() -> None:
    settings = {key: value for key, value in SETTINGS.items() if key != "seed"}
    with pytest.raises(ConfigError, match=r"^seed: this setting is missing"):
        RunOptions.of(settings)
