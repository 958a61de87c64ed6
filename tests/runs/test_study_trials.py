"""Which runs a study consists of, and that they differ in the mitigation alone."""

import pytest

from configs import study as configs
from configs.mitigations import METHODS
from kneefair_jax.errors import InputError
from kneefair_jax.runs import study_trials
from kneefair_jax.runs.study_trials import Trial
from tests.runs import synthetic_study


def test_methods_by_seeds_with_the_oracle_and_the_sweep_each_once():
    config = synthetic_study.config(sweep_methods=("erm", "equal_share"))
    runs = study_trials.trials(config)
    # By seed: three methods; the oracle, and equal_share at equal shares; both at a fifth. A tenth is the study's own.
    assert len(runs) == 3 * (3 + 1 + 1 + 2)
    assert len({trial.directory for trial in runs}) == len(runs) == len(set(runs))
    assert {trial.seed for trial in runs[:7]} == {3}
    assert Trial("oracle", 3, 0.0) in runs and Trial("erm", 3, 0.0) not in runs
    assert {trial.strength for trial in runs} == {None, 0.0, 0.789}
    fewer = synthetic_study.config(methods=("erm", "group_dro"), sweep_methods=("erm", "equal_share"))
    assert "equal_share" not in {trial.method for trial in study_trials.trials(fewer)}
    without = synthetic_study.config(oracle=False, sweep=())
    assert len(study_trials.trials(without)) == 9


@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_nothing_but_the_mitigation(method):
    config = configs.get_config("all")
    baseline = study_trials.config_of(config, Trial("erm", 10))
    fields = study_trials.changes(
        baseline.to_dict(), study_trials.config_of(config, Trial(method, 10)).to_dict()
    )
    assert all(field.startswith("mitigation.") for field in fields)
    assert bool(fields) == (method != "erm")
    again = study_trials.changes(
        baseline.to_dict(), study_trials.config_of(config, Trial("erm", 11)).to_dict()
    )
    assert again == {"seed": [10, 11]}
    assert "study" not in baseline and "study" in config


def test_the_oracle_is_the_baseline_with_equal_shares():
    config = synthetic_study.config()
    fields = study_trials.changes(
        study_trials.config_of(config, Trial("erm", 3)).to_dict(),
        study_trials.config_of(config, Trial("oracle", 3, 0.0)).to_dict(),
    )
    assert fields == {"data.phantom.bias.race=B.representation": [0.936, 0.0]}
    assert config.data.phantom.bias["race=B"]["representation"] == 0.936  # the study's own is left as it was


def test_the_count_says_of_what():
    config = synthetic_study.config(seeds=(3,), sweep_methods=("erm", "equal_share"))
    assert study_trials.describe(config, study_trials.trials(config)) == (
        "7 runs: 1 seed of 3 methods, the oracle and 3 runs of the sweep"
    )
    config = synthetic_study.config(oracle=False, sweep=())
    assert study_trials.describe(config, study_trials.trials(config)) == "9 runs: 3 seeds of 3 methods"


def test_the_difference_is_described_in_a_line():
    config = synthetic_study.config()
    one, other = (study_trials.config_of(config, Trial(method, 3)) for method in ("erm", "equal_share"))
    assert study_trials.difference(one, other) == "mitigation.sampler.name: shuffled -> equal_share"
    assert study_trials.difference(one, one) == "the baseline"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study.methods": ("group_dro",)}, "add erm, the baseline"),
        ({"study.methods": ("erm",)}, "nothing to compare with erm; add one or more of adversarial, "),
        ({"study.methods": ("erm", "magic")}, "'magic' is none of"),
        ({"study.sweep_methods": ("equal_share",)}, "add erm, the baseline"),
        ({"study.seeds": (1, 1)}, "each once"),
        ({"study.seeds": ()}, "one or more"),
        ({"data.folds": 3}, "one split"),
        (
            {"mitigation.sampler.name": "equal_share"},
            "sampler.name=.equal_share.: the config is the baseline",
        ),
        ({"data.phantom.bias": {}}, "need phantoms with the switch representation"),
    ],
)
def test_what_could_not_be_compared_is_refused(changes, message):
    config = synthetic_study.config()
    with config.unlocked():
        for field, value in changes.items():
            *sections, name = field.split(".")
            section = config
            for part in sections:
                section = section[part]
            section[name] = value
    with pytest.raises(InputError, match=message):
        study_trials.check(config)


def test_a_config_without_a_study_is_refused():
    config = synthetic_study.config()
    with config.unlocked():
        del config["study"]
    with pytest.raises(InputError, match="section `study`"):
        study_trials.check(config)


def test_a_study_without_attributes_is_refused_before_its_runs():
    config = synthetic_study.config()
    config.data.attributes = ()
    with pytest.raises(InputError, match="compares the gaps between groups"):
        study_trials.check(config)
