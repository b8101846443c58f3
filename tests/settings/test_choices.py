"""Choices are read from the configuration tree, for the help and for the README."""

from __future__ import annotations

from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.choices import choices, choices_table


def test_every_group_and_every_file_is_listed() -> None:
    found = choices()
    assert {"algorithm", "env", "experiment", "transforms"} <= found.keys()
    assert "iqn" in found["objective"] and "__init__" not in found["objective"]
    assert compose_settings([f"optimizer={found['optimizer'][-1]}"])
    assert "| `target_update=` | `hard`, `soft` |" in choices_table()
