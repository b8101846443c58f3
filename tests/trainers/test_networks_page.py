"""The catalogue of networks is what the configuration builds, and leaves nothing out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tm_torchrl.modules.encoders.pooling import _POOLS
from tm_torchrl.modules.layers.activations import ACTIVATIONS
from tm_torchrl.modules.quantiles.slots import MIXERS
from tm_torchrl.settings.folder import config_folder

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.pages.networks import page

    assert page() == TEXT, "run python benchmarks/pages/networks.py"


@pytest.mark.parametrize("group", ["network", "objective"])
def test_every_choice_is_on_the_page(group: str) -> None:
    elsewhere = {"policy", "autoencoder", "vae", "simclr"}  # PPO's network, for cloning; pretraining of any encoder
    names = {path.stem for path in (config_folder() / group).glob("*.yaml")} - elsewhere
    assert [name for name in names if f"{group}={name}" not in TEXT] == []


def test_every_slot_is_on_the_page() -> None:
    assert [name for name in ACTIVATIONS if name != "leaky_relu" and f"activation={name}" not in TEXT] == []
    assert [name for name in _POOLS if f"pooling={name}" not in TEXT] == []
    assert [name for name in MIXERS if f"mixer={name}" not in TEXT] == []
    assert [name for name in ("residual", "all") if f"spectral_norm={name}" not in TEXT] == []


def test_every_preset_is_on_the_page() -> None:
    """Experiments change one thing, which has a line of its own; tasks without a camera or blocks are no networks."""
    presets = [path.stem for path in (config_folder() / "experiment").glob("*.yaml")]
    others = ("exp_", "cartpole_", "lunarlander_", "short_", "fast_")
    ours = [name for name in presets if not name.startswith(others)]
    assert [name for name in ours if f"experiment={name}" not in TEXT] == []
