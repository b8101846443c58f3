"""Installs the link plugin into TMInterface's folder of plugins."""

from __future__ import annotations

import os
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent / "tm_torchrl_link.as"
COMMUNITY_PLUGIN = "Python_Link.as"
_PLUGINS_FOLDER = Path("TMInterface") / "Plugins"


def home_folder() -> Path:
    """The user's home folder; the present folder for services and containers that have none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path.cwd()


def plugin_folders(*, home: Path | None = None) -> list[Path]:
    """Existing folders of this machine in which TMInterface may look for plugins, the likeliest first.

    Documents may be in OneDrive; under wine they are in the prefix (``WINEPREFIX``, or ``~/.wine``).

    Args:
        home: Home folder of the user; by default that of the present user.
    """
    home = home or home_folder()
    documents = [home / "Documents", home / "OneDrive" / "Documents"]
    prefixes = [Path(prefix) for prefix in [os.environ.get("WINEPREFIX", "")] if prefix] + [home / ".wine"]
    for prefix in prefixes:
        users = prefix / "drive_c" / "users"
        if users.is_dir():
            documents += [user / name for user in sorted(users.iterdir()) for name in ("Documents", "My Documents")]
    return list(dict.fromkeys(folder / _PLUGINS_FOLDER for folder in documents if (folder / _PLUGINS_FOLDER).is_dir()))


def install_plugin(folder: str | Path, *, replace_community: bool = False) -> Path:
    """Copy the plugin into a folder, completely or not at all; returns the new file.

    Args:
        folder: ``Documents/TMInterface/Plugins`` of the game's user.
        replace_community: Whether to disable the community's plugin, which uses the same port, by renaming it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder={str(folder)!r}: must be an existing folder; TMInterface 2.1 creates it when the game first starts"
        )
    other = folder / COMMUNITY_PLUGIN
    if other.exists() and not replace_community:
        raise FileExistsError(
            f"{other} exists, and both would listen at the same port; either one works with tm_torchrl: keep it, or "
            "disable it with --replace"
        )
    target = folder / PLUGIN.name
    unfinished = target.with_suffix(".unfinished")
    try:
        unfinished.write_bytes(PLUGIN.read_bytes())
        if other.exists():
            other.replace(other.with_suffix(".as.off"))  # only now, so that a full disk leaves a working plugin
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target
