"""Settings of saved runs: read as data, with the names of earlier versions translated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tm_torchrl.lazy import extras_named
from tm_torchrl.settings.construct import ConfigError, shown
from tm_torchrl.settings.targets import refuse_foreign_targets, renamed
from tm_torchrl.settings.text_files import read_text

_HELP = "restore it from a copy, or from a run with the same settings; its checkpoints are untouched"
RAY = "tm_torchrl.collectors.make_ray_collector"
_SECTIONS = ("env", "objective", "replay")  # of runs of versions before the group `algorithm`
_ESTIMATORS = {
    "greedy": "tm_torchrl.objectives.GreedyEstimator",
    "double": "tm_torchrl.objectives.DoubleEstimator",
    "soft": "tm_torchrl.objectives.SoftEstimator",
    "munchausen": "tm_torchrl.objectives.MunchausenEstimator",
}


def find_run(run: str | Path) -> Path:
    """The run folder that is meant: the folder itself, the newest run below it, or with ``latest`` that below ``runs``.

    A folder without runs is returned as it is.

    Args:
        run: A run folder, a folder with runs, or ``latest``.
    """
    path = Path(run)
    if str(run) == "latest" and not path.exists():
        path = Path("runs")
    if (path / "config.yaml").is_file():
        return path
    found = [config for pattern in ("*", "*/*", "*/*/*") for config in path.glob(f"{pattern}/config.yaml")]
    newest = max(found, key=lambda config: config.stat().st_mtime, default=None)
    return Path(run) if newest is None else newest.parent


def run_settings(folder: str | Path, *, trust: Sequence[str] = ()) -> dict[str, Any]:
    """The settings that a run was made with.

    Args:
        folder: The run folder.
        trust: Packages, besides this one, whose classes the settings may name.
    """
    path = Path(str(folder)) / "config.yaml"
    try:
        found = read_yaml(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist: {folder} is not a run folder (they are in runs/)") from None
    sections = ("env", "algorithm") if isinstance(found, Mapping) and "algorithm" in found else _SECTIONS
    missing = [name for name in sections if not isinstance(found, dict) or name not in found]
    if missing:
        raise ConfigError(f"{path} is damaged, or not a run's settings: it has no {', '.join(missing)}; {_HELP}")
    for name in sections:
        if not isinstance(found[name], dict):
            raise ConfigError(f"{path} is damaged: {name}={shown(found[name])} must be a mapping; {_HELP}")
    settings = upgraded(renamed(found))
    try:
        refuse_foreign_targets(settings, trust=trust)
        refuse_other_machines(settings, trust=trust)
        refuse_foreign_environment(settings["env"], trust=trust)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings


def read_yaml(path: Path) -> Any:
    """What a YAML file of a run holds; aliases are refused, because a few of them can stand for billions of values.

    Args:
        path: The file.
    """
    with extras_named():  # here, so that commands without a run need no YAML
        import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1} has an alias; write the value out")
            return super().compose_node(parent, index)

    try:
        return yaml.load(read_text(path), Loader=Loader)
    except OSError:
        raise
    except Exception as error:  # PyYAML raises errors of many kinds for damaged text
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}; {_HELP}") from None


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run of an earlier version in today's form.

    >>> upgraded({"estimator": {"name": "double"}})["estimator"]
    {'_target_': 'tm_torchrl.objectives.DoubleEstimator', '_partial_': True}
    """
    found = _with_noisy_value(settings)
    reset = found.get("soft_reset")
    if isinstance(reset, Mapping) and str(reset.get("_target_")).endswith(".DormantReset"):  # which is gone
        found["soft_reset"] = None
    if "algorithm" in found:
        return found
    found["algorithm"] = {"_target_": "tm_torchrl.algorithms.QuantileAlgorithm"}
    for name, target in (
        ("replay", "tm_torchrl.data.Replay"),
        ("learner", "tm_torchrl.algorithms.Learner"),
        ("collector", "tm_torchrl.collectors.make_collector"),
    ):
        if isinstance(found.get(name), Mapping):
            found[name] = {"_target_": target, "_partial_": True, **found[name]}
    estimator = found.get("estimator")
    if isinstance(estimator, Mapping) and "name" in estimator:
        options = {key: value for key, value in estimator.items() if key != "name"}
        target = _ESTIMATORS.get(estimator["name"], f"tm_torchrl.objectives.{estimator['name']}")
        found["estimator"] = {"_target_": target, "_partial_": True, **options}
    return found


def _with_noisy_value(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Earlier versions had noise in the value stream too, except in its last layer with ``plain_value_output``."""
    objective = settings.get("objective")
    network = objective.get("network") if isinstance(objective, Mapping) else None
    if not isinstance(objective, Mapping) or not isinstance(network, Mapping) or "plain_value_output" not in network:
        return dict(settings)
    kept = {key: value for key, value in network.items() if key != "plain_value_output"}
    is_noisy = network.get("linear", "linear") != "linear"
    kept["noisy_value"] = is_noisy and ("hidden" if network["plain_value_output"] else True)
    return {**settings, "objective": {**objective, "network": kept}}


def refuse_other_machines(settings: Any, *, trust: Sequence[str] = ()) -> None:
    """Raise ``ValueError`` for settings that would connect to another machine: a game's, or a cluster's.

    Args:
        settings: Of a saved run.
        trust: Packages that may do so.
    """
    if isinstance(settings, list):
        for value in settings:
            refuse_other_machines(value, trust=trust)
    if not isinstance(settings, Mapping):
        return
    target = str(settings.get("_target_", ""))
    if target == RAY and settings.get("address") not in (None, "local", "auto") and "ray" not in trust:
        raise ValueError(
            f"collector.address={settings['address']!r}: whoever runs that cluster could run programs here. If it is "
            "your own: trust=[ray]"
        )
    is_trusted = any("tm_torchrl.game".startswith(package) for package in trust)
    if target.startswith("tm_torchrl.game.") and not is_trusted:
        host, path, arguments = settings.get("host"), str(settings.get("map_path")), settings.get("arguments")
        refused = {
            "host": host not in (None, "127.0.0.1", "localhost"),
            "map_path": any(sign in path for sign in ';"') or not path.isprintable(),
            "arguments": bool(arguments),
        }
        for name in (name for name, is_refused in refused.items() if is_refused):
            raise ValueError(
                f"{name}={settings[name]!r}: a saved run uses the game of this machine only, as configs/game has it. "
                "If it is your own: trust=[tm_torchrl.game] (--trust tm_torchrl.game in other commands)"
            )
    for value in settings.values():
        refuse_other_machines(value, trust=trust)


def refuse_foreign_environment(env: Mapping[str, Any], *, trust: Sequence[str] = ()) -> None:
    """Raise ``ValueError`` for a gymnasium id that imports a module, such as ``evil:CartPole-v1``.

    Args:
        env: Settings of a saved run's environment.
        trust: Packages that it may import.
    """
    options = env.get("options")
    options = options if isinstance(options, Mapping) else {}
    for name in ("render_mode", "env_id"):  # open a window, import a module
        if name in options:
            raise ValueError(f"env.options.{name}={options[name]}: a saved run may not set it; delete the line")
    module, colon, _ = str(env.get("name", "")).partition(":")
    if colon and module.partition(".")[0] not in ("tm_torchrl", "gymnasium", *trust):
        raise ValueError(f"env.name={env['name']}: a saved run may not import {module}; trust=[{module}] allows it")
