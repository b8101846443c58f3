"""Ablations: experiments against a baseline, over seeds, each run in a process of its own and resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tm_torchrl.experiments.run_process import RUN, STOPPED, failure, folder_name, is_done, prepare, start_process
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
        name: a preset of ``configs/experiment``, or changes to the baseline (``"estimator=double"``), or both, joined
            by ``+`` (``"exp_enable_per_v1+replay.prioritized.alpha=0.4"``).
        baseline: a preset.
        overrides: for all runs; an experiment's own changes come behind them.

    Examples:
        >>> compose_experiment("seed=1+gamma=0.9", baseline="cartpole_iqn", overrides=["seed=2"])["seed"]
        1
    """
    first, *rest = name.split("+")
    preset, own = (baseline, [first, *rest]) if "=" in first else (first, rest)
    return compose_settings([f"experiment={preset}", *overrides, *own])


def changes(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, path: tuple[str, ...] = ()) -> list[Change]:
    """What makes our settings of theirs; ``apply_changes`` does it to others."""
    found: list[Change] = []
    for key in [*theirs, *(key for key in ours if key not in theirs)]:
        mine, other = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += changes(mine, other, path=(*path, str(key)))
        elif mine is _ABSENT or other is _ABSENT or mine != other:
            found.append(((*path, str(key)), mine))
    return found


def apply_changes(settings: Mapping[str, Any], wanted: Sequence[Change]) -> Settings:
    """Settings with changes.

    Examples:
        >>> wanted = changes({"a": {"b": 2}, "c": 3}, {"a": {"b": 1, "d": 0}, "c": 3})
        >>> apply_changes({"a": {"b": 1, "d": 5, "e": 6}, "c": 4}, wanted)
        {'a': {'b': 2, 'e': 6}, 'c': 4}
    """
    found: Settings = yaml.safe_load(yaml.safe_dump(dict(settings)))
    for path, value in wanted:
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
    """Runs experiments, one process at a time, and writes the table after each.

    What is done already is not done again, and a run that was killed goes on from its checkpoint; a run that failed
    is tried again.

    Args:
        names: of experiments; see ``compose_experiment``.
        out: folder of everything.
        baseline: a preset.
        seeds: of the runs.
        overrides: for all runs.
        accumulate: each experiment is added to the best so far, and kept if it is clearly better.
        log: for messages.
        start: runs what a folder's settings say and returns an exit status.
        judge: looks at a finished run once more before it is measured; ``judge_hardships`` does.
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
        log: Callable[[str], None] = lambda message: None,
        start: Callable[[Path], int] = start_process,
        judge: Callable[[Path], object] = lambda run: None,
    ) -> None:
        everything = [baseline, *names]
        folders = [folder_name(name) for name in everything]
        for name, folder in zip(everything, folders, strict=True):
            if folders.count(folder) > 1:
                raise ValueError(f"{name}: named twice; an experiment runs once for each seed")
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds={list(seeds)}: at least one is wanted, and each once")
        self.names = list(names)
        self.out = Path(out)
        self.baseline = baseline
        self.seeds = list(seeds)
        self.overrides = list(overrides)
        self.accumulate = accumulate
        self.log = log
        self.start = start
        self.judge = judge
        self.entries: list[Entry] = []

    def run(self) -> list[Entry]:
        """All of it; returns the baseline and the experiments, in their order."""
        plain = compose_experiment(self.baseline, baseline=self.baseline, overrides=self.overrides)
        best = Entry(self.baseline, plain)
        self._run_entry(best)
        for name in self.names:
            entry = Entry(name, base=best.name)
            try:
                settings = compose_experiment(name, baseline=self.baseline, overrides=self.overrides)
                wanted = [change for change in changes(settings, plain) if change[0] != ("seed",)]
                assert best.settings is not None
                entry.settings = apply_changes(best.settings, wanted)
                if entry.settings == best.settings:
                    raise ConfigError(f"{name}: changes nothing of {best.name} with these settings")
            except ConfigError as error:
                entry.failures = dict.fromkeys(self.seeds, str(error))
            self._run_entry(entry)
            if self.accumulate and not entry.failures and better(entry.measures, best.measures):
                entry.is_kept, best = True, entry
                self._write()
        return self.entries

    def _run_entry(self, entry: Entry) -> None:
        self.entries.append(entry)
        for seed in self.seeds:
            if seed not in entry.failures:
                self._run_seed(entry, seed)
            if seed in entry.failures:
                self.log(f"{entry.name}, seed {seed}: FAILED: {entry.failures[seed]}")
        self._write()

    def _run_seed(self, entry: Entry, seed: int) -> None:
        assert entry.settings is not None
        folder = self.out / folder_name(entry.name) / f"seed_{seed}"
        refused = prepare(folder, {**entry.settings, "seed": seed})
        if refused:
            entry.failures[seed] = refused
            return
        if not is_done(folder):
            self.log(f"{entry.name}, seed {seed}: runs")
            status = self.start(folder)
            if status == STOPPED:
                raise KeyboardInterrupt
            if failed := failure(folder, status):
                entry.failures[seed] = failed
                return
        try:
            self.judge(folder / RUN)
            entry.measures[seed] = measure(folder / RUN)
        except (ValueError, OSError) as error:
            entry.failures[seed] = f"its results cannot be read: {error}"
            return
        shown = ", ".join(f"{key} {value:.4g}" for key, value in entry.measures[seed].items())
        self.log(f"{entry.name}, seed {seed}: {shown}")

    def _write(self) -> None:
        write_table(self.out, self.entries, seeds=self.seeds)
