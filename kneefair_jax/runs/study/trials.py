"""Which runs a study consists of, and the config of each: all the same but for the mitigation and the seed."""

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
        strength: of the phantom's switch `representation`; None for what the config says.
    """

    method: str
    seed: int
    strength: float | None = None

    @property
    def directory(self) -> Path:
        """Its folder, within the study's."""
        place = "runs" if self.strength is None else f"runs_{SWITCH}_{self.strength:g}"
        return Path(place, self.method, f"seed_{self.seed}")


def swept(config: ConfigDict) -> list[str]:
    """The methods of the sweep: those of `study.sweep_methods` that the study has."""
    return [method for method in config.study.sweep_methods if method in config.study.methods]


def trials(config: ConfigDict) -> list[Trial]:
    """Every run of the study once, seeds outermost: a study that is cut off has whole seeds."""
    study = config.study
    strengths = [strength for strength in study.sweep if strength not in (0.0, strength_of(config))]
    made = []
    for seed in study.seeds:
        made += [Trial(method, seed) for method in study.methods]
        if study.oracle or 0.0 in study.sweep:
            made.append(Trial(ORACLE, seed, 0.0))
        if 0.0 in study.sweep:  # where `erm` is the oracle
            made += [Trial(method, seed, 0.0) for method in swept(config) if method != BASELINE]
        made += [Trial(method, seed, s) for s in strengths for method in swept(config)]
    return made


def counted(config: ConfigDict, every: Sequence[Trial]) -> str:
    """How many runs there are, and of what: `60 runs: 5 seeds of 6 methods, the oracle and 5 runs of the sweep`."""
    study = config.study
    parts = [amount(len(study.methods), "method")]
    if study.oracle:
        parts.append("the oracle")
    if swept_runs := len(every) // len(study.seeds) - len(study.methods) - bool(study.oracle):
        parts.append(f"{amount(swept_runs, 'run')} of the sweep")
    return f"{amount(len(every), 'run')}: {amount(len(study.seeds), 'seed')} of {listing(parts)}"


def config_of(config: ConfigDict, trial: Trial) -> ConfigDict:
    """The config of one run: the study's without its section, with the method's settings and the seed."""
    one = ConfigDict(config.copy_and_resolve_references().to_dict())
    del one["study"]
    changes = config.study.settings[BASELINE if trial.method == ORACLE else trial.method]
    one.mitigation.update(changes.to_dict())
    one.seed = trial.seed
    if trial.strength is not None:
        for switches in one.data.phantom.bias.values():
            if SWITCH in switches:
                switches[SWITCH] = trial.strength
    return one


def changes(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The fields in which two configs differ: name -> [base's value, the other's]."""
    flat, its_own = run_directory.flatten(dict(base)), run_directory.flatten(dict(other))
    return {
        field: [flat.get(field), its_own.get(field)]
        for field in sorted(flat.keys() | its_own.keys())
        if flat.get(field) != its_own.get(field)
    }


def difference(base: ConfigDict, other: ConfigDict) -> str:
    """The same for a reader: `mitigation.sampler.name: shuffled -> equal_share`."""
    found = changes(base.to_dict(), other.to_dict())
    return ", ".join(f"{field}: {old} -> {new}" for field, (old, new) in found.items()) or "the baseline"


def check(config: ConfigDict) -> None:
    """Refuses what is not a study, or one that could not be compared.

    Raises:
        InputError: naming the field.
    """
    if "study" not in config:
        raise InputError("--mode=study needs a config with a section `study`, such as configs/study.py")
    study = config.study
    bootstrap.check_draws(study.bootstrap_draws, "config.study.bootstrap_draws")
    if BASELINE not in study.methods:
        raise InputError(
            f"config.study.methods={tuple(study.methods)}: {BASELINE} is what all are compared with"
        )
    if len(set(study.methods)) < 2:
        others = [method for method in study.settings if method != BASELINE]
        raise InputError(
            f"config.study.methods={tuple(study.methods)}: there is nothing to compare with {BASELINE}; add one or "
            f"more of {', '.join(others)}, or train {BASELINE} alone by --mode=train"
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
    for field, plain in (
        ("objective", "erm"),
        ("sampler", "shuffled"),
        ("head", "none"),
        ("schedule", "single"),
    ):
        if config.mitigation[field].name != plain:
            raise InputError(
                f"config.mitigation.{field}.name is the baseline's; give it to a method, in study.settings"
            )
    if (study.oracle or study.sweep) and strength_of(config) is None:
        raise InputError(
            "config.study.oracle and study.sweep need phantoms with the switch representation in data.phantom.bias"
        )


def strength_of(config: ConfigDict) -> float | None:
    """Of the switch `representation`; None where there is none."""
    bias = config.data.phantom.bias if "phantom" in config.data else {}
    return next((float(switches[SWITCH]) for switches in bias.values() if SWITCH in switches), None)
