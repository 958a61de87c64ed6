"""Runs are made once, dealt out over machines, and compared when all are there; the runs here are made up."""

import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runs import experiment
from kneefair_jax.runs.study import run_study
from kneefair_jax.runs.study_summary import summary
from kneefair_jax.runs.study_trials import Trial, trials
from kneefair_jax.runtime import run_directory
from kneefair_jax.training.loop import NonFiniteLossError
from tests.runs import synthetic_study

pytestmark = pytest.mark.usefixtures("terminal_log")


def replace_runs(monkeypatch):
    """Replaces training by made-up runs; returns the list of their folders, in order."""
    made = []
    monkeypatch.setattr("kneefair_jax.training.scoring.effort", lambda folder: (300, 2.0))

    def one(config, workdir, directory, training):
        made.append(workdir)
        synthetic_study.one(config, workdir, directory, training)

    monkeypatch.setattr(experiment, "run_experiment", one)
    return made


@pytest.fixture
def calls(monkeypatch):
    """The folders of the runs that were made, in order."""
    return replace_runs(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished study of `synthetic_study.config()`."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_runs(monkeypatch)
        run_study(synthetic_study.config(), folder)
    return folder


@pytest.fixture
def study_copy(finished, tmp_path):
    """A folder of its own for each test, with the finished study in it."""
    return shutil.copytree(finished, tmp_path / "study")


def test_a_study_trains_each_run_once_and_prints_the_differences(calls, tmp_path, capsys):
    config, cache = synthetic_study.config(), jax.config.jax_compilation_cache_dir
    run_study(config, tmp_path)
    assert len(calls) == len(set(calls)) == len(trials(config))
    told = capsys.readouterr().out
    assert "27 runs: 3 seeds of 3 methods, the oracle and 5 runs of the sweep" in told
    assert "1/27 erm/seed_3: Dice 0.9000, race=A 0.9000 (" in told
    assert "skipped" not in told
    assert (
        "group_dro          mitigation.objective.name: erm -> group_dro, mitigation.sampler.name: shuffled"
        in told
    )
    assert "trained" not in told  # what a run prints is in its folder
    assert "trained" in (tmp_path / "runs" / "erm" / "seed_3" / "log.txt").read_text()
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    assert f"kneefair export {tmp_path / 'runs'}" in told
    assert jax.config.jax_compilation_cache_dir == cache
    before = (tmp_path / "report" / "study.json").read_bytes()
    run_study(config, tmp_path)
    assert "27 already finished and skipped, 0 to train" in capsys.readouterr().out
    assert len(calls) == len(trials(config))
    assert (tmp_path / "report" / "study.json").read_bytes() == before


def test_a_run_that_was_cut_off_goes_on(calls, study_copy, capsys):
    config = synthetic_study.config()
    cut = study_copy / "runs" / "group_dro" / "seed_4"
    shutil.rmtree(cut / "report")
    (cut / "checkpoints" / "60").mkdir(parents=True)
    run_study(config, study_copy)
    told = capsys.readouterr().out
    assert "26 already finished and skipped, 1 to train, 1 of them from a checkpoint" in told
    assert calls == [cut]


def test_shards_share_the_runs_out_and_the_last_one_writes_the_page(calls, tmp_path, capsys):
    config = synthetic_study.config()
    for part in (2, 0):
        run_study(config, tmp_path, f"{part}/3")
        assert not (tmp_path / "report").exists()
        told = capsys.readouterr().out
        assert "9 of them in this shard" in told and "the page waits for" in told
    run_study(config, tmp_path, "1/3")
    assert len(calls) == len(set(calls)) == len(trials(config))
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize("shard", ["3/3", "-1/2", "1", "a/b", "0/0"])
def test_a_shard_that_is_none(shard, tmp_path):
    with pytest.raises(InputError, match="give i/n with i from 0 to n - 1"):
        run_study(synthetic_study.config(), tmp_path, shard)


@pytest.fixture
def diverging(monkeypatch):
    """The methods whose runs of seed 3 diverge, and the folders of the runs that were tried."""
    methods, tried = set(), []

    def one(config, workdir, directory, training):
        tried.append(workdir)
        if workdir.parent.name in methods and config.seed == 3:
            workdir.mkdir(parents=True, exist_ok=True)
            run_directory.open_run(workdir, config, table="t", pixels="0.936")
            raise NonFiniteLossError("training diverged at step 7")
        synthetic_study.one(config, workdir, directory, training)

    monkeypatch.setattr(experiment, "run_experiment", one)
    return methods, tried


def test_a_method_that_diverges_is_named_and_left_out(diverging, tmp_path, capsys):
    methods, tried = diverging
    methods.add("equal_share")
    config = synthetic_study.config(sweep_methods=("erm", "equal_share"))
    run_study(config, tmp_path)
    assert len(tried) == len(trials(config))
    assert "equal_share/seed_3: training diverged at step 7" in capsys.readouterr().out
    study = json.loads((tmp_path / "report" / "study.json").read_text())
    assert "runs/equal_share/seed_3" in study["diverged"]["equal_share"]
    assert set(study["comparison"]["methods"]) == {"erm", "group_dro", "oracle"}
    assert set(study["sweep"]["points"][0]["comparison"]["methods"]) == {"erm"}
    run_study(config, tmp_path)
    assert len(tried) == len(trials(config))  # it would diverge again


def test_there_is_no_study_without_its_baseline(diverging, tmp_path):
    diverging[0].add("erm")
    with pytest.raises(
        InputError, match=r"runs/erm/seed_3 has diverged, and every method is compared with erm"
    ):
        run_study(synthetic_study.config(), tmp_path)


def test_a_study_with_too_few_draws_is_refused_before_its_runs(calls, tmp_path):
    config = synthetic_study.config()
    config.study.bootstrap_draws = 39
    with pytest.raises(InputError, match=r"config\.study\.bootstrap_draws=39"):
        run_study(config, tmp_path)
    assert not calls


@pytest.mark.slow
def test_runs_by_other_code_are_noted(calls, study_copy):
    config = synthetic_study.config()
    assert summary(config, study_copy)["notes"] == []
    path = study_copy / "runs" / "group_dro" / "seed_4" / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": "other"}))
    (note,) = summary(config, study_copy)["notes"]
    assert "2 different commits" in note and "other" in note


def test_nothing_is_run_when_one_method_cannot_be(calls, tmp_path):
    config = synthetic_study.config(methods=("erm", "equal_share", "group_dro", "group_specific"))
    config.data.phantom.patients = 60
    with pytest.raises(InputError, match="its own model needs at least a batch"):
        run_study(config, tmp_path)
    assert not calls


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective.eta": -1.0},
            r"^config\.study\.settings\.group_dro\.objective\.eta=-1\.0: give a number",
        ),
        (
            {"objective.step": 1.0},
            r"^config\.study\.settings\.group_dro\.objective\.step=1\.0: .* give one of",
        ),
        (
            {"objective.name": "reweighted"},
            r"^config\.study\.settings\.group_dro: sampler 'equal_share' balances",
        ),
        (
            {"objective.alpha": 0.1},
            r"group_dro\.objective\.alpha=0\.1: objective 'group_dro' does not read alpha",
        ),
    ],
)
def test_an_error_of_a_method_s_settings_names_the_method(calls, tmp_path, settings, message):
    config = synthetic_study.config()
    with config.unlocked():
        for field, value in settings.items():
            part, name = field.split(".")
            config.study.settings.group_dro[part][name] = value
    with pytest.raises(InputError, match=message):
        run_study(config, tmp_path)
    assert not calls and not list(tmp_path.iterdir())


def test_another_config_in_the_folder_is_refused(calls, study_copy):
    other = synthetic_study.config()
    other.train.steps = 99
    with pytest.raises(InputError, match=r"train.steps is 99 but was 300"):
        run_study(other, study_copy)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "config.json",
            {"loss": "focal"},
            "differs from runs/erm/seed_4 in loss, not in the mitigation alone",
        ),
        ("environment.json", {"data": {"table": "other"}}, "has other patients or pixels than"),
        (
            "report/report.json",
            {"run": {"resolution": "native"}},
            r"runs/group_dro/seed_4: scored at another resolution than .* \(working\).*--mode=evaluate",
        ),
    ],
)
def test_runs_that_differ_in_more_than_the_mitigation_are_not_compared(
    calls, study_copy, file, change, message
):
    """The trap: methods compared on other patients, or with another recipe."""
    config = synthetic_study.config()
    path = study_copy / "runs" / "group_dro" / "seed_4" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        summary(config, study_copy)


def test_the_numbers_follow_from_the_tables(calls, study_copy):
    config = synthetic_study.config()
    study = json.loads((study_copy / "report" / "study.json").read_text())
    gaps = {}
    for method in ("erm", "equal_share", "group_dro", "oracle"):
        strength = 0.0 if method == "oracle" else None
        gaps[method] = []
        for seed in (3, 4, 5):
            table = pd.read_parquet(study_copy / Trial(method, seed, strength).directory / "cases.parquet")
            test = table[(table["split"] == "test") & (table["model"] == "overall")]
            means = test.groupby("race", observed=True)["dice"].mean()
            gaps[method].append(means["A"] - means["B"])
    methods = study["comparison"]["methods"]
    for method, by_seed in gaps.items():
        np.testing.assert_allclose(methods[method]["gap"]["per_seed"], by_seed, atol=1e-9)
    means = {method: np.mean(by_seed) for method, by_seed in gaps.items()}
    closed = (means["erm"] - means["group_dro"]) / (means["erm"] - means["oracle"])
    np.testing.assert_allclose(methods["group_dro"]["closed"]["value"], closed, atol=1e-9)
    assert study["methods"]["group_dro"]["changes"] == {
        "mitigation.objective.name": ["erm", "group_dro"],
        "mitigation.sampler.name": ["shuffled", "equal_share"],
    }
    shares = [point["share"] for point in study["sweep"]["points"]]
    np.testing.assert_allclose(shares, [2 / 22, 5 / 25, 1 / 2])  # of 20 of A and what is left of 20 of B
    assert study["runs"]["count"] == len(trials(config))
    assert study["runs"]["seconds"] == 2.0 * len(trials(config))
    assert study["methods"]["erm"]["steps"] == 300


def test_every_rule_has_the_comparison_s_pair(calls, tmp_path, monkeypatch):
    """The trap: each rule's gap turned by its own baseline, side by side in one table."""
    monkeypatch.setattr(synthetic_study, "GAPS", synthetic_study.GAPS | {"erm": 0.0})
    real = synthetic_study.pd.DataFrame.to_parquet

    def turned(table, path):
        # By the rule worst_group, the baseline is better for B.
        shift = 0.01 * ((table["model"] == "worst_group") & (table["race"] == "B")).astype(float)
        real(table.assign(dice=table["dice"] + shift - 0.003 * (table["race"] == "B")), path)

    monkeypatch.setattr(synthetic_study.pd.DataFrame, "to_parquet", turned)
    config = synthetic_study.config(oracle=False, sweep=())
    run_study(config, tmp_path)
    study = json.loads((tmp_path / "report" / "study.json").read_text())
    pairs = [found["pair"] for found in study["rules"].values()]
    assert pairs == [{"best": "race=A", "worst": "race=B"}] * 3
    assert study["rules"]["worst_group"]["methods"]["erm"]["pair"]["value"] < 0
    assert study["rules"]["overall"] == study["comparison"]


@pytest.mark.slow
def test_every_point_of_the_sweep_has_the_comparison_s_pair(calls, tmp_path, monkeypatch):
    """The trap: where the baseline's order turns, a gap that is positive again, of the other sign."""
    monkeypatch.setattr(synthetic_study, "GAPS", synthetic_study.GAPS | {"oracle": -0.02})
    config = synthetic_study.config()
    run_study(config, tmp_path)
    study = json.loads((tmp_path / "report" / "study.json").read_text())
    points = [point["comparison"] for point in study["sweep"]["points"]]
    assert [point["pair"] for point in points] == [{"best": "race=A", "worst": "race=B"}] * 3
    even = points[-1]["methods"]["erm"]["pair"]
    assert even["value"] == pytest.approx(-0.03, abs=2e-3) and even["patients"][1] < 0


def test_runs_of_the_sweep_are_validated_on_their_own_patients(tmp_path):
    config = synthetic_study.config(
        methods=("erm", "undersampled"), oracle=False, sweep=(0.99,), sweep_methods=("erm", "undersampled")
    )
    config.data.phantom.patients = 100
    config.data.phantom.bias["race=B"].representation = 0.3
    config.train.batch_size = 8
    with pytest.raises(InputError, match=r"study\.settings\.undersampled.*undersampled"):
        run_study(config, tmp_path)
