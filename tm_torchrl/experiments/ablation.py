"""Ablations: experiments against a baseline, over seeds, each run in its own process and resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tm_torchrl.experiments.grid import Process, run_grid
from tm_torchrl.experiments.run_process import RUN, STOPPED, RunProcess, failure, folder_name, is_done, prepare
from tm_torchrl.experiments.table import Entry, Settings, better, measure, write_table
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.tree import compose_settings

ROADMAP = (  # from free and safe to daring
    "exp_enable_augmentation_v1",
    "exp_enable_per_v1",
    "exp_munchausen_iqn_v1",
    "exp_impala_encoder_v1",
    "exp_spectral_norm_v1",
    "exp_layer_norm_v1",
    "exp_noisy_heads_v1",
    "exp_residual_trunk_v1",
    "exp_film_conditioning_v1",
    "exp_multi_action_mixer_v1",
    "exp_nq_network_v1",
    "exp_fqf_v1",
    "exp_gru_latent_v1",
)
Change = tuple[tuple[str, ...], Any]
_ABSENT = object()


def compose_experiment(name: str, *, baseline: str, overrides: Sequence[str] = ()) -> Settings:
    """The settings of an experiment.

    Args:
        name: A preset of ``configs/experiment``, or changes to the baseline (``"estimator=double"``), or both, joined
            by ``+`` (``"exp_enable_per_v1+replay.prioritized.alpha=0.4"``).
        baseline: A preset.
        overrides: Settings of all runs; an experiment's own changes come after them.

    Examples:
        >>> compose_experiment("seed=1+gamma=0.9", baseline="cartpole_iqn", overrides=["seed=2"])["seed"]
        1
    """
    first, *rest = name.split("+")
    preset, own = (baseline, [first, *rest]) if "=" in first else (first, rest)
    return compose_settings([f"experiment={preset}", *overrides, *own])


def changes(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, path: tuple[str, ...] = ()) -> list[Change]:
    """The changes that turn their settings into ours; ``apply_changes`` makes them to other settings."""
    found: list[Change] = []
    for key in [*theirs, *(key for key in ours if key not in theirs)]:
        mine, other = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += changes(mine, other, path=(*path, str(key)))
        elif mine is _ABSENT or other is _ABSENT or mine != other:
            found.append(((*path, str(key)), mine))
    return found


def apply_changes(settings: Mapping[str, Any], changed: Sequence[Change]) -> Settings:
    """A copy of settings with changes made.

    Examples:
        >>> changed = changes({"a": {"b": 2}, "c": 3}, {"a": {"b": 1, "d": 0}, "c": 3})
        >>> apply_changes({"a": {"b": 1, "d": 5, "e": 6}, "c": 4}, changed)
        {'a': {'b': 2, 'e': 6}, 'c': 4}
    """
    found: Settings = yaml.safe_load(yaml.safe_dump(dict(settings)))
    for path, value in changed:
        node = found
        for key in path[:-1]:
            inner = node.get(key)
            node[key] = inner if isinstance(inner, dict) else {}
            node = node[key]
        if value is _ABSENT:
            node.pop(path[-1], None)
        else:
            node[path[-1]] = value
    return found


class Ablation:
    """Runs experiments over seeds and writes the table after each experiment.

    A run that is done is not repeated, one that was killed goes on from its checkpoint, and one that failed is tried
    again.

    Args:
        names: Names of experiments; see ``compose_experiment``.
        out: Folder of all runs and of the table.
        baseline: Preset that the experiments are compared with.
        seeds: Seeds of the runs.
        overrides: Settings of all runs.
        accumulate: Adds each experiment to the best so far, and keeps it if it is clearly better.
        workers: Number of runs at a time.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        out: str | Path,
        baseline: str = "iqn_pixels",
        seeds: Sequence[int] = (0, 1, 2, 3, 4),
        overrides: Sequence[str] = (),
        accumulate: bool = False,
        workers: int = 1,
    ) -> None:
        everything = [baseline, *names]
        folders = [folder_name(name) for name in everything]
        for name, folder in zip(everything, folders, strict=True):
            if folders.count(folder) > 1:
                raise ValueError(f"names: {name} occurs twice; each experiment must be given once")
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds={list(seeds)}: must be one or more different numbers")
        if workers < 1:
            raise ValueError(f"workers={workers}: must be at least 1")
        self.names = list(names)
        self.out = Path(out)
        self.baseline = baseline
        self.seeds = list(seeds)
        self.overrides = list(overrides)
        self.accumulate = accumulate
        self.workers = workers
        self.entries: list[Entry] = []

    def run(
        self,
        *,
        log: Callable[[str], None] = lambda message: None,
        start: Callable[[Path], Process] = RunProcess,
        judge: Callable[[Path], object] = lambda run: None,
    ) -> list[Entry]:
        """Run everything; returns the baseline and the experiments, in their order.

        Args:
            log: Receives messages.
            start: Starts the process of a folder.
            judge: Called with the folder of a finished run before it is measured; ``measure_robustness`` is one.
        """
        self._log, self._start, self._judge = log, start, judge
        plain = compose_experiment(self.baseline, baseline=self.baseline, overrides=self.overrides)
        best = Entry(self.baseline, plain)
        if not self.accumulate:  # nothing of an experiment depends on another, so that all may run at a time
            self._run_entries([best, *(self._entry(name, plain, base=best) for name in self.names)])
            return self.entries
        self._run_entries([best])
        for name in self.names:
            entry = self._entry(name, plain, base=best)
            self._run_entries([entry])
            if not entry.failures and better(entry.measures, best.measures):
                entry.is_kept, best = True, entry
                self._write()
        return self.entries

    def _entry(self, name: str, plain: Settings, *, base: Entry) -> Entry:
        """An experiment that changes the settings of ``base``, or why it cannot."""
        entry = Entry(name, base=base.name)
        try:
            settings = compose_experiment(name, baseline=self.baseline, overrides=self.overrides)
            changed = [change for change in changes(settings, plain) if change[0] != ("seed",)]
            assert base.settings is not None
            entry.settings = apply_changes(base.settings, changed)
            if entry.settings == base.settings:
                raise ConfigError(f"{name}: changes nothing of {base.name} with these settings")
        except ConfigError as error:
            entry.failures = dict.fromkeys(self.seeds, str(error))
            self._log(f"{name}: FAILED: {error}")
        return entry

    def _run_entries(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        cells = [(entry, seed) for entry in entries for seed in self.seeds if seed not in entry.failures]
        run_grid(cells, start=self._started, ended=self._ended, workers=self.workers)
        self._write()

    def _folder(self, entry: Entry, seed: int) -> Path:
        return self.out / folder_name(entry.name) / f"seed_{seed}"

    def _started(self, cell: tuple[Entry, int]) -> Process | None:
        entry, seed = cell
        assert entry.settings is not None
        folder = self._folder(entry, seed)
        refused = prepare(folder, {**entry.settings, "seed": seed})
        if refused:
            self._fail(entry, seed, refused)
        elif is_done(folder):
            self._measure(entry, seed)
        else:
            self._log(f"{entry.name}, seed {seed}: runs")
            return self._start(folder)
        return None

    def _ended(self, cell: tuple[Entry, int], status: int) -> bool:
        entry, seed = cell
        if status == STOPPED:
            raise KeyboardInterrupt
        failed = failure(self._folder(entry, seed), status)
        if failed:
            self._fail(entry, seed, failed)
        else:
            self._measure(entry, seed)
        if len(entry.measures) + len(entry.failures) == len(self.seeds):
            self._write()
        return False

    def _measure(self, entry: Entry, seed: int) -> None:
        run = self._folder(entry, seed) / RUN
        try:
            self._judge(run)
            found = entry.measures[seed] = measure(run)
        except (ValueError, OSError) as error:
            self._fail(entry, seed, f"its results cannot be read: {error}")
            return
        self._log(f"{entry.name}, seed {seed}: {', '.join(f'{key} {value:.4g}' for key, value in found.items())}")

    def _fail(self, entry: Entry, seed: int, why: str) -> None:
        entry.failures[seed] = why
        self._log(f"{entry.name}, seed {seed}: FAILED: {why}")

    def _write(self) -> None:
        write_table(self.out, self.entries, seeds=self.seeds)
