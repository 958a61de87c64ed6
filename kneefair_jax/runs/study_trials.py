"""The runs of a study and their configs, which differ in the mitigation and the seed alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import bootstrap
from kneefair_jax.report.text.formatting import amount, listing
from kneefair_jax.runtime import run_directory

BASELINE = "erm"
ORACLE = "oracle"
SWITCH = "representation"


class Trial(NamedTuple):
    """One run of the study.

    Attributes:
        method: a key of `study.settings`, or the oracle.
        seed: of the run; the patients are those of `data.seed`.
        strength: of the phantom's switch `representation`; None for the config's value.
    """

    method: str
    seed: int
    strength: float | None = None

    @property
    def directory(self) -> Path:
        """The run's folder, within the study's."""
        parent = "runs" if self.strength is None else f"runs_{SWITCH}_{self.strength:g}"
        return Path(parent, self.method, f"seed_{self.seed}")


def sweep_methods(config: ConfigDict) -> list[str]:
    """Return the methods of the sweep: those of `study.sweep_methods` that the study has."""
    return [method for method in config.study.sweep_methods if method in config.study.methods]


def trials(config: ConfigDict) -> list[Trial]:
    """Return every run of the study, seeds outermost, so that an interrupted study has complete seeds."""
    study = config.study
    strengths = [strength for strength in study.sweep if strength not in (0.0, strength_of(config))]
    runs = []
    for seed in study.seeds:
        runs += [Trial(method, seed) for method in study.methods]
        if study.oracle or 0.0 in study.sweep:
            runs.append(Trial(ORACLE, seed, 0.0))
        if 0.0 in study.sweep:  # where `erm` is the oracle
            runs += [Trial(method, seed, 0.0) for method in sweep_methods(config) if method != BASELINE]
        runs += [Trial(method, seed, s) for s in strengths for method in sweep_methods(config)]
    return runs


def describe(config: ConfigDict, runs: Sequence[Trial]) -> str:
    """Return the number of runs by kind: `60 runs: 5 seeds of 6 methods, the oracle and 5 runs of the sweep`."""
    study = config.study
    parts = [amount(len(study.methods), "method")]
    if study.oracle:
        parts.append("the oracle")
    if sweep_runs := len(runs) // len(study.seeds) - len(study.methods) - bool(study.oracle):
        parts.append(f"{amount(sweep_runs, 'run')} of the sweep")
    return f"{amount(len(runs), 'run')}: {amount(len(study.seeds), 'seed')} of {listing(parts)}"


def config_of(config: ConfigDict, trial: Trial) -> ConfigDict:
    """Return the config of one run: the study's without its section, with the method's settings and the seed."""
    run = ConfigDict(config.copy_and_resolve_references().to_dict())
    del run["study"]
    changes = config.study.settings[BASELINE if trial.method == ORACLE else trial.method]
    run.mitigation.update(changes.to_dict())
    run.seed = trial.seed
    if trial.strength is not None:
        for switches in run.data.phantom.bias.values():
            if SWITCH in switches:
                switches[SWITCH] = trial.strength
    return run


def changes(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the fields in which two configs differ: name -> [value in `base`, value in `other`]."""
    a, b = run_directory.flatten(dict(base)), run_directory.flatten(dict(other))
    fields = sorted(a.keys() | b.keys())
    return {field: [a.get(field), b.get(field)] for field in fields if a.get(field) != b.get(field)}


def difference(base: ConfigDict, other: ConfigDict) -> str:
    """Return the differing fields for a reader: `mitigation.sampler.name: shuffled -> equal_share`."""
    fields = changes(base.to_dict(), other.to_dict())
    return ", ".join(f"{field}: {old} -> {new}" for field, (old, new) in fields.items()) or "the baseline"


def check(config: ConfigDict) -> None:
    """Refuse a config without a study, and a study whose runs could not be compared.

    Raises:
        InputError: naming the field.
    """
    if "study" not in config:
        raise InputError("--mode=study needs a config with a section `study`, such as configs/study.py")
    study = config.study
    if not config.data.attributes:
        raise InputError(
            "config.data.attributes=(): a study compares the gaps between groups; name the attributes, or train single "
            "runs with --mode=train"
        )
    bootstrap.check_draws(study.bootstrap_draws, "config.study.bootstrap_draws")
    if BASELINE not in study.methods:
        raise InputError(
            f"config.study.methods={tuple(study.methods)}: add {BASELINE}, the baseline of every comparison"
        )
    if len(set(study.methods)) < 2:
        alternatives = [method for method in study.settings if method != BASELINE]
        raise InputError(
            f"config.study.methods={tuple(study.methods)}: there is nothing to compare with {BASELINE}; add one or "
            f"more of {', '.join(alternatives)}, or train {BASELINE} alone with --mode=train"
        )
    for method in (*study.methods, *study.sweep_methods):
        if method not in study.settings:
            raise InputError(f"config.study.methods: {method!r} is none of {', '.join(study.settings)}")
    if study.sweep and BASELINE not in study.sweep_methods:
        raise InputError(
            f"config.study.sweep_methods={tuple(study.sweep_methods)}: add {BASELINE}, the baseline"
        )
    if len(set(study.seeds)) < max(len(study.seeds), 1):
        raise InputError(f"config.study.seeds={tuple(study.seeds)}: give one or more, each once")
    if config.data.folds:
        raise InputError("config.data.folds: a study has one split, the same for all; set data.folds=0")
    if study.settings[BASELINE]:
        raise InputError(
            f"config.study.settings.{BASELINE}: the baseline is the config itself; leave it empty"
        )
    for part, method in (
        ("objective", "erm"),
        ("sampler", "shuffled"),
        ("head", "none"),
        ("schedule", "single"),
    ):
        if config.mitigation[part].name != method:
            raise InputError(
                f"config.mitigation.{part}.name={config.mitigation[part].name!r}: the config is the baseline's; set it "
                f"back to {method!r} and name the method in study.settings"
            )
    if (study.oracle or study.sweep) and strength_of(config) is None:
        raise InputError(
            "config.study.oracle and study.sweep need phantoms with the switch representation in data.phantom.bias"
        )


def strength_of(config: ConfigDict) -> float | None:
    """Return the strength of the switch `representation`; None where there is none."""
    bias = config.data.phantom.bias if "phantom" in config.data else {}
    return next((float(switches[SWITCH]) for switches in bias.values() if SWITCH in switches), None)
