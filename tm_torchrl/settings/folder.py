"""Where the YAML files are."""

from __future__ import annotations

from pathlib import Path


def config_folder() -> Path:
    """The folder of the YAML files: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train_iqn.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no configs/train_iqn.yaml beside or inside {package}: install tm_torchrl again")
