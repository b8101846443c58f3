"""The choices of each group of settings, read from the configuration tree."""

from __future__ import annotations

from tm_torchrl.settings.folder import config_folder


def choices() -> dict[str, list[str]]:
    """The names of the files of each group.

    >>> choices()["optimizer"]
    ['adam', 'adamw', 'radam']
    """
    folders = sorted(path for path in config_folder().iterdir() if path.is_dir() and any(path.glob("*.yaml")))
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}


def choices_table() -> str:
    """The choices as a Markdown table."""
    rows = [f"| `{group}=` | {', '.join(f'`{name}`' for name in names)} |" for group, names in choices().items()]
    return "\n".join(["| group | choices |", "|---|---|", *rows])
