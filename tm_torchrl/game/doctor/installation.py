"""Checks of the game on the disk: its folders, the loader, TMInterface, the link plugin, a map."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from tm_torchrl.game.doctor.failures import cure_of
from tm_torchrl.game.doctor.finding import Check, Finding, Level
from tm_torchrl.game.plugin.install import PLUGIN, home_folder, plugin_folders

PLUGIN_WORD = "custom_port"  # every link plugin registers this variable
_FIRST_WITH_PLUGINS = (2, 0)
_VERSION = re.compile("ProductVersion".encode("utf-16-le") + rb"\0+((?:[0-9.]\0){3,30})")


def documents_folder(home: Path | None = None) -> Path:
    """Where the game keeps maps and TMInterface its plugins: Documents, OneDrive's, or those of a wine prefix.

    Args:
        home: of the person.
    """
    start = home_folder() if home is None else home
    places = [start / "Documents", start / "OneDrive" / "Documents"]
    places += [Path(os.environ[name]) / "Documents" for name in ("OneDrive",) if home is None and name in os.environ]
    for place in [folder.parent.parent for folder in plugin_folders(home=home)] + places:
        if (place / "TrackMania").is_dir() or (place / "TmForever").is_dir() or (place / "TMInterface").is_dir():
            return place
    return places[0]


def check_game_folder(documents: Path) -> Finding:
    """The game's own folder among the documents, which it makes when it first runs.

    Args:
        documents: the person's folder.
    """
    for name in ("TrackMania", "TmForever"):
        if (documents / name).is_dir():
            return Finding("game folder", Level.OK, str(documents / name))
    cure = "start the game once and log in; under wine give --documents, the Documents folder inside its prefix"
    return Finding("game folder", Level.WARN, f"no TrackMania in {documents}", cure)


def check_loader(loader: str | None) -> Finding:
    """TMLoader, which starts the game with TMInterface.

    Args:
        loader: its path; ``None`` to look for it.
    """
    found = loader if loader is not None and Path(loader).is_file() else shutil.which(loader or "TMLoader")
    if found:
        return Finding("loader", Level.OK, str(found))
    text = "TMLoader was not found" if loader is None else f"{loader} is not a file"
    cure = "install TMLoader, or give its path: --loader PATH; games that are started by hand need none"
    return Finding("loader", Level.WARN, text, cure)


def version_of(path: Path) -> str | None:
    """The version that a Windows library tells of itself.

    Args:
        path: of the ``.dll``.
    """
    match = _VERSION.search(path.read_bytes())
    return None if match is None else match.group(1).decode("utf-16-le")


def check_tminterface(folders: Sequence[Path]) -> Finding:
    """Which TMInterface is there.

    Args:
        folders: to look in, and in all within them.
    """
    for folder in folders:
        for path in sorted(folder.rglob("TMInterface*.dll")) if folder.is_dir() else ():
            found = version_of(path)
            if found is None:
                continue
            numbers = tuple(int(part) for part in found.split(".")[:2])
            if numbers >= _FIRST_WITH_PLUGINS:
                return Finding("tminterface", Level.OK, f"{found}: use game=tmi2 ({path})")
            return Finding("tminterface", Level.OK, f"{found}: use game=tmi1, which has no pictures ({path})")
    looked = ", ".join(map(str, folders)) or "no folder"
    cure = "install TMInterface 2.1 into TMLoader's profile, or give the folder of the .dll: --loader PATH"
    return Finding("tminterface", Level.WARN, f"no TMInterface.dll was found (looked in {looked})", cure)


def check_plugin(documents: Path, *, ours: Path = PLUGIN.parent) -> Finding:
    """The link plugin: there, and if it is ours, of this version.

    Args:
        documents: the person's folder.
        ours: folder of the plugin that this project brings.
    """
    folder = documents / "TMInterface" / "Plugins"
    present = [
        path for path in sorted(folder.rglob("*.as")) if PLUGIN_WORD in path.read_text("utf-8", errors="replace")
    ]
    if not present:
        return Finding("plugin", Level.FAIL, f"no link plugin in {folder}", cure_of("no plugin"))
    if len(present) > 1:
        names = ", ".join(path.name for path in present)
        return Finding("plugin", Level.WARN, f"several want the same port: {names}", "keep one, move the others away")
    current = {path.name: path.read_bytes().split() for path in ours.glob("*.as")} if ours.is_dir() else {}
    name = present[0].name
    if name not in current:
        return Finding("plugin", Level.OK, f"{name}, not this project's own; it works too")
    if current[name] != present[0].read_bytes().split():
        return Finding("plugin", Level.WARN, f"{name} is of another version", "python scripts/install_plugin.py")
    return Finding("plugin", Level.OK, f"{name}, current")


def check_map(documents: Path, map_path: str | None) -> Finding:
    """The map that shall be loaded.

    Args:
        documents: the person's folder.
        map_path: as the game's ``map`` command takes it, from the folder of challenges.
    """
    if map_path is None:
        return Finding("map", Level.OK, "none was asked for: the one that is open in the game is driven")
    parts = PureWindowsPath(map_path.strip('"')).parts
    for game in ("TrackMania", "TmForever"):
        folder = documents / game / "Tracks" / "Challenges"
        if folder.joinpath(*parts).is_file():
            return Finding("map", Level.OK, str(folder.joinpath(*parts)))
    return Finding("map", Level.FAIL, f"{map_path} is not in {documents}", cure_of("map not found"))


def installation_checks(
    *, documents: Path | None = None, loader: str | None = None, map_path: str | None = None
) -> Sequence[tuple[str, Check]]:
    """All of them.

    Args:
        documents: the person's folder; ``None`` to look for it.
        loader: path of TMLoader.
        map_path: that shall be loaded.
    """
    folder = documents_folder() if documents is None else documents
    near = [Path(loader).parent] if loader is not None and Path(loader).is_file() else []  # else it would be anywhere
    return (
        ("game folder", lambda: check_game_folder(folder)),
        ("loader", lambda: check_loader(loader)),
        ("tminterface", lambda: check_tminterface([*near, folder / "TMInterface"])),
        ("plugin", lambda: check_plugin(folder)),
        ("map", lambda: check_map(folder, map_path)),
    )
