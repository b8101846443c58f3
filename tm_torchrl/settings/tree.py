"""The Hydra tree: composed settings, and messages that suggest a correction of misspelt ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tm_torchrl.invocation import command
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.folder import config_folder
from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.stored import find_run, run_settings, upgraded
from tm_torchrl.settings.targets import renamed
from tm_torchrl.tracks import DEFAULT_TRACK

ROOT = "train_iqn"  # the file in configs/ that names all groups
_OURS = "hydra"
ABBREVIATIONS = {"lr": "learning_rate", "frames": "total_frames", "minutes": "max_minutes", "steps": "total_frames"}


def run_name(settings: Any) -> str:
    """The name of a run, or of its track or task."""
    env = settings["env"]
    for found in (settings["name"], env.get("track"), env.get("name")):
        if found:
            return re.sub(r"[^\w.-]+", "-", Path(str(found)).stem if "/" in str(found) else str(found))
    tracks = env.get("tracks") or []
    number = len(tracks) or env.get("generated_tracks")
    return f"{number}-tracks" if number else DEFAULT_TRACK


OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
OmegaConf.register_new_resolver("command", command, replace=True)


def compose_settings(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings with overrides, as plain nested dicts.

    Args:
        overrides: Overrides as on the command line, such as ``"env.track=oval"`` or ``"objective=qrdqn"``.

    Examples:
        >>> compose_settings(["objective=qrdqn", "seed=3"])["seed"]
        3
        >>> compose_settings(["sed=3"])
        Traceback (most recent call last):
        tm_torchrl.settings.construct.ConfigError: sed=3: no such setting; did you mean seed? ...
    """
    settings = resolved(compose_config(overrides))
    return without_leftovers(settings, overrides)


def complete_settings(settings: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """All settings of a run, those of the run that it resumes included.

    Args:
        settings: Composed settings, also of an earlier version; or overrides as on the command line.
    """
    if isinstance(settings, Mapping):
        return upgraded(renamed(settings))
    overrides = typed_overrides(settings)
    try:
        composed = compose_settings(overrides)
    except ConfigError:
        if not any(override.startswith("resume=") for override in overrides):
            raise
        composed = compose_settings(_with_those_of_the_run(overrides))
    if composed["resume"] is not None:
        composed = resumed_settings(composed, overrides, run_settings(composed["resume"], trust=composed["trust"]))
    return composed


def _with_those_of_the_run(overrides: Sequence[str]) -> list[str]:
    """Overrides that change settings which the resumed run has and the default choices lack, such as those of PPO.

    Args:
        overrides: Overrides as on the command line, ``resume`` among them.
    """
    choices = [override for override in overrides if "." not in override.partition("=")[0]]
    config = compose_config(choices)
    stored = OmegaConf.create(run_settings(config["resume"], trust=config["trust"]))
    found = []
    for override in overrides:
        key = override.partition("=")[0]
        if override in choices or key[0] in "+~" or _has(config, key):
            found.append(override)
        elif _has(stored, key):
            found.append(f"++{override}")
        else:
            raise ConfigError(f"{override}: the run has no such setting{_nearest_beside(stored, key)}")
    return found


def _has(config: DictConfig, key: str) -> bool:
    """Whether there is a setting of this full name."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(config, group)
    return isinstance(node, DictConfig) and name in node


def resolved(config: DictConfig) -> dict[str, Any]:
    """Plain nested dicts of Hydra's container, with each ``${name}`` replaced by the setting of that name.

    Args:
        config: A composed configuration.
    """
    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        name = getattr(error, "full_key", None) or "a setting"
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}; ${{...}} names another setting") from None


def without_leftovers(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings without those of a preset for a choice that an override replaces.

    ``experiment=cartpole_iqn`` sets the temperature of Munchausen targets, which ``estimator=double`` does not have.

    Args:
        settings: Settings composed with the overrides.
        overrides: Overrides as on the command line.
    """
    asked = [override for override in overrides if override.partition("=")[0].lstrip("+") == "experiment"]
    chosen = [group for group in map(_group_of, overrides) if group not in (None, "experiment")]
    if not asked or not chosen:
        return settings
    of_chosen = [override for override in overrides if re.split(r"[=.]", override.lstrip("+"))[0] in chosen]
    plain = compose_config(of_chosen)
    for group in chosen:
        if isinstance(settings.get(group), dict) and isinstance(plain.get(group), DictConfig):
            settings[group] = {key: value for key, value in settings[group].items() if key in plain[group]}
    return settings


def _group_of(override: str) -> str | None:
    """The group of files that an override chooses from; ``None`` if it sets a value."""
    group = override.partition("=")[0].lstrip("+")
    return group if group and "." not in group and (config_folder() / group).is_dir() else None


def typed_overrides(words: Sequence[str]) -> list[str]:
    """Overrides as they are typed: values with blanks are quoted for Hydra, and ``resume=latest`` names the newest run.

    >>> typed_overrides(["resume=my runs/a", "seed=1", "-m"])
    ['resume="my runs/a"', 'seed=1', '-m']
    """
    found = []
    for word in words:
        key, sign, value = word.partition("=")
        is_path = key == "resume" and value not in ("", "null")
        if is_path:
            value = str(find_run(value.strip("'\"")))
        if re.search(r"[^\w./\\:~+-]" if is_path else r"\s", value) and value[0] not in "'\"[{":
            value = f'"{value}"'
        found.append(f"{key}{sign}{value}")
    return found


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The settings with overrides, as Hydra's container."""
    if GlobalHydra.instance().is_initialized():
        GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return compose(ROOT, overrides=list(overrides))
        except (
            HydraException,
            OmegaConfBaseException,
            ValueError,
            TypeError,
        ) as error:  # TypeError: estimator=[1]
            raise ConfigError(_explained(error, overrides)) from None


def _explained(error: Exception, overrides: Sequence[str]) -> str:
    """A message about the override that caused an error, with the nearest valid name."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        override = error.override.removeprefix("++")
        key, _, value = override.partition("=")
        return (
            f"{override}: cannot be parsed. Brackets, commas and the like need their own quotes inside those "
            f"of the shell: '{key}=\"{value}\"'"
        )
    if isinstance(error, TypeError):
        for override in overrides:
            if (group := _group_of(override)) is not None and override.partition("=")[2].startswith(("[", "{")):
                return f"{override}: must be the name of a choice of {group}"
    option = re.search(r"Could not find '([\w/]+)'", text)
    if option is not None:
        group, _, choice = option.group(1).rpartition("/")
        folder = config_folder() / group
        known = [path.stem for path in folder.glob("*.yaml")]
        return f"{group}={choice}: no such choice{nearest_name(choice, known)}"
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if f"'{key}'" in text or f"Could not override '{key}'" in text or f"key: {key}" in text:
            try:
                config = compose(ROOT, overrides=[other for other in overrides if other is not override])
            except (HydraException, OmegaConfBaseException, ValueError, TypeError):
                config = compose(ROOT)
            last = key.rpartition(".")[2]
            if elsewhere := _same_name(config, last):
                return f"{override}: no such setting; did you mean {' or '.join(elsewhere)}?"
            return f"{override}: no such setting{_nearest_beside(config, key)}"
    return text.splitlines()[0]


def _same_name(config: DictConfig, name: str) -> list[str]:
    """The full names of settings that end in a name, or in what it abbreviates."""
    name = ABBREVIATIONS.get(name, name)
    return [each for each in _dotted(OmegaConf.to_container(config)) if each.rpartition(".")[2] == name][:3]


def _dotted(settings: Any, prefix: str = "") -> list[str]:
    """The full names of all settings."""
    if not isinstance(settings, dict):
        return []
    names = []
    for key, value in settings.items():
        names += [f"{prefix}{key}", *_dotted(value, f"{prefix}{key}.")]
    return names


def _nearest_beside(config: DictConfig, key: str) -> str:
    """The end of a message about a misspelt key: the settings that stand where it should."""
    return nearest_name(key.rpartition(".")[2], _known_names(config, key))


def _known_names(config: DictConfig, key: str) -> list[str]:
    """The names of the settings beside a misspelt key."""
    node: Any = config
    for part in key.split(".")[:-1]:
        if not isinstance(node, DictConfig) or part not in node:
            return [str(name) for name in node] if isinstance(node, DictConfig) else []
        node = node[part]
    return [str(name) for name in node if name != _OURS] if isinstance(node, DictConfig) else []


def resumed_settings(wanted: Mapping[str, Any], overrides: Sequence[str], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that is resumed, changed only by explicit overrides.

    Args:
        wanted: Settings composed with the overrides.
        overrides: Overrides as on the command line.
        stored: Settings of the run.

    Examples:
        >>> stored = {"env": {"track": "oval"}, "total_frames": 10, "resume": None}
        >>> wanted = {"env": {"track": None}, "total_frames": 20, "resume": "runs/a"}
        >>> resumed_settings(wanted, ["total_frames=20", "resume=runs/a"], stored)
        {'env': {'track': 'oval'}, 'total_frames': 20, 'resume': 'runs/a'}
    """
    try:
        found = OmegaConf.create({**stored, "resume": wanted["resume"]})
    except OmegaConfBaseException as error:
        raise ConfigError(f"the settings of the run hold an invalid value: {str(error).splitlines()[0]}") from None
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").replace("/", ".")
        if key == "experiment":
            raise ConfigError(f"{override}: a resumed run keeps its settings; leave it out, or change single settings")
        if key not in ("resume", "hydra") and not key.startswith("hydra."):
            if "." in key and key.partition(".")[0] not in found:
                raise ConfigError(f"{override}: the run has no such setting{_nearest_beside(found, key)}")
            OmegaConf.update(found, key, OmegaConf.select(OmegaConf.create(dict(wanted)), key), merge=False)
    return OmegaConf.to_container(found)  # type: ignore[return-value]


def differences(ours: Any, theirs: Any, *, name: str = "") -> list[str]:
    """Settings that differ, one line each: ``name: theirs -> ours``.

    >>> differences({"seed": 1, "env": {"track": "oval"}}, {"seed": 1, "env": {"track": "ring"}})
    ['env.track: ring -> oval']
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lines = []
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            inner = f"{name}.{key}" if name else str(key)
            lines += differences(ours.get(key, "absent"), theirs.get(key, "absent"), name=inner)
        return lines
    return [] if ours == theirs else [f"{name}: {theirs} -> {ours}"]
