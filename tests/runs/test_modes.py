"""Folds: each a run of its own, and their union a cohort reported whole."""

import contextlib
import io
import json
import types

import pandas as pd
import pytest

from configs import folder as folder_config
from configs import quickstart
from kneefair_jax.errors import InputError
from kneefair_jax.runs import modes
from tests.films import folder

pytestmark = pytest.mark.usefixtures("terminal_log")


def config(root, fold=-1):
    fields = folder_config.get_config()
    fields.data.update({"root": str(root), "size": (16, 16), "folds": 2, "fold": fold})
    fields.model.update({"widths": (4,), "convolutions": 1})
    fields.augment = dict.fromkeys(fields.augment, 0.0) | {"flip": 0.5}
    fields.train.update({"steps": 2, "eval_every": 2, "batch_size": 8})
    fields.report.bootstrap_draws = 40
    return fields


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """The folder of films, and the folder of a run of two folds."""
    path = tmp_path_factory.mktemp("folds")
    root = folder(path / "films")
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        assert not modes.train(config(root, fold=1), path / "run")
    assert "waits for fold_0" in stdout.getvalue()
    assert not (path / "run" / "report").exists()
    assert modes.train(config(root), path / "run")
    return root, path / "run"


def test_every_patient_is_scored_once_by_a_model_that_never_saw_it(folds):
    root, run = folds
    union = pd.read_parquet(run / "cases.parquet")
    selected = union[union["model"] == "overall"]
    assert sorted(selected["case_id"].unique()) == sorted(f"c{i}" for i in range(24))
    assert not selected.duplicated(["case_id", "structure"]).any()
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["scores"]["dice"]["overall"]["cases"] == 24
    assert report["scores"]["dice"]["groups"]["age=missing"]["cases"] == 2
    assert len(report["run"]["step"]) == 2
    for fold in range(2):
        table = pd.read_csv(run / f"fold_{fold}" / "cohort.csv")
        counts = table[table["group"] == "all"].set_index("split")["patients"]
        assert counts["test"] == 6 and counts["all"] == 12
    other = config(root, fold=1)
    other.loss = "focal"
    with pytest.raises(InputError, match="holds a run of another config"):
        modes.train(other, run)
    # One store serves them all.
    assert len(list((run / "store" / "case_store").iterdir())) == 1


@pytest.mark.slow
def test_folds_are_evaluated_again_together(folds, capsys):
    root, run = folds
    report = json.loads((run / "report" / "report.json").read_text())
    modes.evaluate_only(config(root), run)
    assert json.loads((run / "report" / "report.json").read_text())["scores"] == report["scores"]
    finer = config(root, fold=1)
    finer.report.resolution = "working"
    capsys.readouterr()
    assert not modes.evaluate_only(finer, run)  # so that no scores of the earlier report are printed
    assert "waits for fold_0, with scores of report.resolution=working" in capsys.readouterr().out


def test_a_cohort_without_attributes_is_trained_and_scored_as_one_group(tmp_path):
    run_config = config(folder(tmp_path / "films"))
    run_config.data.update({"folds": 0, "attributes": ()})
    modes.train(run_config, tmp_path / "run")
    report = json.loads((tmp_path / "run/report/report.json").read_text())
    assert report["cohort"]["attributes"] == [] and report["scores"]["dice"]["groups"] == {}
    assert report["scores"]["dice"]["overall"]["patients"] == 2
    page = (tmp_path / "run/report/index.html").read_text()
    assert "no attributes" in page and "Results by attribute" not in page
    run_config.mitigation.objective.name = "group_dro"
    with pytest.raises(InputError, match=r"needs attributes; name them in data\.attributes"):
        modes.train(run_config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_external_cohort_of_unknown_groups_cannot_be_segmented_by_group(tmp_path):
    external = folder(tmp_path / "external", patient="x")
    table = pd.read_csv(external / "metadata.csv")
    table.drop(columns="sex").to_csv(external / "metadata.csv", index=False)
    run_config = config(folder(tmp_path / "films"))
    run_config.data.update({"folds": 0, "external": str(external)})
    run_config.mitigation.head.name = "moe"
    with pytest.raises(InputError, match="24 of the 24 external cases are of no known group of sex"):
        modes.train(run_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_group_that_was_left_out_whole_is_unknown_of_external_cases_too(tmp_path):
    """The trap: groups are dealt anew without what cannot be read, and external ones were looked at before."""
    root, external = folder(tmp_path / "films"), folder(tmp_path / "external", patient="x")
    for directory in (root, external):
        table = pd.read_csv(directory / "metadata.csv")
        table.loc[table["case_id"].isin(["c0", "c1"]), "sex"] = "other"
        table["split"] = ["train"] * 16 + ["validation"] * 4 + ["test"] * 4
        table.to_csv(directory / "metadata.csv", index=False)
    for name in ("0", "1"):
        (root / f"images/{name}.png").write_bytes(b"torn")
    run_config = config(root)
    run_config.data.update(
        {"folds": 0, "on_read_error": "skip", "external": str(external), "split_column": "split"}
    )
    run_config.mitigation.head.name = "moe"
    with pytest.raises(InputError, match=r"2 of the 24 external cases .* exclude them with data\.levels"):
        modes.train(run_config, tmp_path / "run")


@pytest.mark.slow
def test_unreadable_cases_are_reported_and_skipped_before_the_split(tmp_path, capsys):
    root = folder(tmp_path / "films")
    external = folder(tmp_path / "external")
    table = pd.read_csv(external / "metadata.csv")
    table.assign(patient_id="x" + table["patient_id"]).to_csv(external / "metadata.csv", index=False)
    for path in (
        root / "images/0.png",
        root / "masks/1.png",
        root / "images/9.png",
        external / "masks/4.png",
    ):
        path.write_bytes(b"torn")
    run_config = config(root)
    run_config.data.update({"folds": 0, "on_read_error": "skip", "external": str(external)})
    modes.train(run_config, tmp_path / "run")
    output = capsys.readouterr().out
    assert "excluded: 3 (listed in excluded.csv)" in output and "3 x unreadable file" in output
    assert 0 < output.index("note: sex=f: 1 of 5 patients are tested") < output.index("report: ")
    assert "excluded: 1 (listed in excluded_external.csv)" in output
    excluded = pd.read_csv(tmp_path / "run" / "excluded.csv")
    assert excluded["what"].tolist() == ["c0", "c1", "c9"]
    assert "metadata.csv row 3: " in excluded["why"][1] and "1.png: unreadable file" in excluded["why"][1]
    # Patient p0 had no other case: it is in no split, and in no count.
    counts = pd.read_csv(tmp_path / "run" / "cohort.csv").set_index(["group", "split"])
    assert counts.loc[("all", "all")].tolist() == [11, 21]
    scored = pd.read_parquet(tmp_path / "run" / "cases.parquet")
    scored_here = scored[scored["split"].isin(["validation", "test"])]
    assert not {"c0", "c1", "c9"} & set(scored_here["case_id"])
    assert scored.loc[scored["split"] == "external", "case_id"].nunique() == 23
    # Predictions and masks of a case belong together: the record is that of the row.
    assert (scored["true_area_mm2"] > 0).all()
    modes.train(run_config, tmp_path / "run")  # again: the same cohort
    run_config.data.on_read_error = "stop"
    with pytest.raises(InputError, match="1 of 24 cases cannot be read"):
        modes.train(run_config, tmp_path / "run")


def test_a_check_names_what_cannot_be_read_before_training_is_refused(tmp_path):
    root = folder(tmp_path / "films")
    for k in range(12):
        (root / f"masks/{k}.png").write_bytes(b"torn")
    made = config(root)
    made.data.update({"folds": 0})
    made.train.batch_size = 16
    made.check.against = ""
    with pytest.raises(
        InputError, match=r"batch_size=16 is more than .*\n.* 12 cases that cannot be read:\n.*0\.png"
    ):
        modes.check(made, tmp_path / "run")
    table = pd.read_csv(tmp_path / "run/check/faults.csv")
    assert (table["fault"] == "unreadable").sum() == 12
    assert len(pd.read_csv(tmp_path / "run/check/excluded.csv")) == 12


def test_check_refuses_training_cases_that_are_drawn_online(tmp_path):
    run = quickstart.get_config()
    run.data.phantom.online = True
    with pytest.raises(InputError, match=r"phantom\.online=True: --mode=check"):
        modes.check(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def check_files(monkeypatch):
    """The files that a check writes beside `hardware.json`, in place of the real ones: name -> text."""
    files = {"check.json": "first", "label_errors.png": "first"}

    def write(main, external, stage, *_):
        for name, text in files.items():
            (stage / name).write_text(text)
            if text == "interrupted":
                raise KeyboardInterrupt

    def prepare_run(*_, inspect, **__):
        prepared = types.SimpleNamespace(cohort=None, cases=types.SimpleNamespace(excluded=[]))
        inspect(prepared, None)
        return None, prepared, None

    measurements = types.SimpleNamespace(_asdict=lambda: {"seconds": len(files)})
    for module, name, stub in (
        (modes.preflight_check, "run", write),
        (modes.experiment, "prepare_run", prepare_run),
        (modes.experiment, "report_excluded", lambda *_: None),
        (modes.group_sizes, "small_groups", lambda *_: []),
        (modes.hardware, "measure", lambda *_: measurements),
        (modes.hardware, "lines", lambda *_: []),
    ):
        monkeypatch.setattr(module, name, stub)
    return files


def test_an_interrupted_check_leaves_the_earlier_result(check_files, tmp_path):
    def content():
        return {path.name: path.read_text() for path in (tmp_path / "check").iterdir()}

    modes.check(quickstart.get_config(), tmp_path)
    before = content()
    assert {"check.json", "label_errors.png", "hardware.json"} < set(before)
    with pytest.raises(InputError, match="--overwrite"):
        modes.check(quickstart.get_config(), tmp_path)
    check_files["check.json"] = "interrupted"
    with pytest.raises(KeyboardInterrupt):
        modes.check(quickstart.get_config(), tmp_path, overwrite=True)
    assert content() == before
    check_files.clear()
    check_files["check.json"] = "second"
    modes.check(quickstart.get_config(), tmp_path, overwrite=True)
    after = content()
    assert after["check.json"] == "second" and "label_errors.png" not in after
    assert json.loads(after["hardware.json"]) == {"seconds": 1}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_check_replaces_no_user_s_file(check_files, tmp_path, overwrite):
    (tmp_path / "check").mkdir()
    (tmp_path / "check" / "faults.csv").write_text("mine")
    with pytest.raises(InputError, match=r"faults\.csv.*another --workdir"):
        modes.check(quickstart.get_config(), tmp_path, overwrite=overwrite)
    assert (tmp_path / "check" / "faults.csv").read_text() == "mine"
