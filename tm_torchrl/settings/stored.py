"""Settings of saved runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tm_torchrl.settings.construct import ConfigError, shown

_HELP = "write it anew with the run's settings, for instance from a run like it; its checkpoints are untouched"


def run_settings(folder: str | Path) -> dict[str, Any]:
    """The settings that a run was made with."""
    path = Path(str(folder)) / "config.yaml"
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: {folder} is no run folder (they lie in runs/)") from None
    except OSError:
        raise
    except Exception as error:  # the reader of YAML stumbles over !!timestamp '' with an AttributeError, and so on
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}; {_HELP}") from None
    missing = [name for name in ("env", "objective", "replay") if not isinstance(found, dict) or name not in found]
    if missing:
        raise ConfigError(f"{path} is damaged, or not a run's: no {', '.join(missing)} in it; {_HELP}")
    for name in ("env", "objective", "replay"):
        if not isinstance(found[name], dict):
            raise ConfigError(
                f"{path} is damaged: {name} is {shown(found[name])}, settings of its own belong there; {_HELP}"
            )
    settings: dict[str, Any] = found
    return settings
