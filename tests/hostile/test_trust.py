"""What somebody else put into a folder runs no code, changes no file outside of it, and is refused in one line."""

import json
import os
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from kneefair_jax.audit import __main__ as audit
from kneefair_jax.errors import InputError
from kneefair_jax.export import __main__ as export
from kneefair_jax.predict import __main__ as predict
from kneefair_jax.runs import modes, study
from tests.audit import folder as masks
from tests.films import folder
from tests.hostile import trust
from tests.predict.networks import write
from tests.runs import synthetic_study
from tests.runs.test_modes import config as folds_config

pytestmark = pytest.mark.usefixtures("terminal_log")


def config(root):
    made = folds_config(root)
    made.data.folds = 0
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = folder(tmp_path_factory.mktemp("films") / "films")
    workdir = tmp_path_factory.mktemp("work") / "run"
    modes.train(config(root), workdir)
    return root, workdir


@pytest.fixture
def copied(trained, tmp_path):
    """The films, and a copy of the run."""
    root, workdir = trained
    return root, shutil.copytree(workdir, tmp_path / "run", symlinks=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write(tmp_path_factory.mktemp("weights") / "w.safetensors"))


def one_line(text):
    """The text is a single line, of an error."""
    return text.count("\n") == 1 and text.startswith("error: ")


def test_a_store_that_names_a_module_is_refused_and_the_module_is_not_imported(copied, tmp_path, monkeypatch):
    root, workdir = copied
    monkeypatch.syspath_prepend(tmp_path)
    trace = trust.plant_module(workdir / "store", tmp_path)
    with pytest.raises(InputError, match=r"features\.json") as error:
        modes.evaluate_only(config(root), workdir)
    assert "delete" in str(error.value) and "\n" not in str(error.value)
    assert not trace.exists() and "evil_features_module" not in sys.modules


def test_a_store_that_names_other_record_files_is_refused(copied):
    root, workdir = copied
    trust.redirect_records(workdir / "store")
    with pytest.raises(InputError, match=r"dataset_info\.json"):
        modes.evaluate_only(config(root), workdir)


@pytest.mark.parametrize("damage", ["{", "[]", '{"sha256": 3, "cases": "x", "broken": 1}'])
def test_a_store_with_a_digest_file_that_is_none_is_refused(copied, damage):
    root, workdir = copied
    for path in workdir.rglob("content.json"):
        path.write_text(damage)
    with pytest.raises(InputError, match=r"content\.json"):
        modes.evaluate_only(config(root), workdir)


def test_a_store_of_the_version_before_opens(copied):
    """It has no sums of files by case."""
    root, workdir = copied

    for path in workdir.rglob("content.json"):
        content = json.loads(path.read_text())
        assert len(content.pop("files")) == 24
        path.write_text(json.dumps(content))
    modes.evaluate_only(config(root), workdir)


@pytest.mark.parametrize(
    "name",
    [".lock", "config.json", "cases.parquet", "report/report.json", "checkpoints", "store", "metrics.jsonl"],
)
def test_a_link_in_a_run_folder_is_refused_and_what_it_leads_to_stays(copied, tmp_path, name):
    root, workdir = copied
    target = tmp_path / "precious"
    if (workdir / name).is_dir():
        target.mkdir()
    else:
        target.write_text("precious")
    trust.link(workdir / name, target)
    with pytest.raises(InputError, match="symbolic link") as error:
        modes.evaluate_only(config(root), workdir)
    assert str(workdir / name) in str(error.value)
    assert list(target.iterdir()) == [] if target.is_dir() else target.read_text() == "precious"


@pytest.mark.parametrize("name", [".lock", "predictions.npz", "report/index.html", "check/check.json"])
def test_a_pipe_in_a_run_folder_does_not_hang(copied, name):
    root, workdir = copied
    (workdir / name).parent.mkdir(exist_ok=True)
    trust.pipe(workdir / name)
    with pytest.raises(InputError, match="is a pipe"):
        modes.evaluate_only(config(root), workdir)


@pytest.mark.parametrize("name", ["areas.csv", ".lock", "masks", "masks/a.png", "overlays/a.png"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_where_predictions_go(tmp_path, weights, capsys, name, kind):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "a.png")
    path, target = tmp_path / "out" / name, tmp_path / "precious"
    path.parent.mkdir(parents=True)
    target.write_text("precious")
    trust.link(path, target) if kind == "link" else trust.pipe(path)
    given = ["--checkpoint", weights, "--images", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert predict.main(given) == 2
    err = capsys.readouterr().err
    assert one_line(err) and str(path) in err
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["index.html", "report.json", "cases.parquet", "cases.csv", "groups.csv"])
def test_links_and_pipes_where_an_audit_goes(tmp_path, capsys, name):
    masks.write(tmp_path)
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "out").mkdir()
    given = ["--truth", "truth", "--pred", "pred", "--metadata", "metadata.csv", "--out", "out"]
    given = [str(tmp_path / word) if i % 2 else word for i, word in enumerate(given)]
    for plant in (lambda path: trust.link(path, target), trust.pipe):
        plant(tmp_path / "out" / name)
        assert audit.main([*given, "--attributes", "sex", "--draws", "40"]) == 2
        err = capsys.readouterr().err
        assert one_line(err) and name in err
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["film.png", "film.jpg", "film.tif"])
def test_postscript_by_another_name_starts_nothing(tmp_path, weights, capsys, monkeypatch, name):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: started.append(a))
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile.load", lambda *a, **k: started.append(a))
    (tmp_path / name).write_bytes(trust.POSTSCRIPT)
    given = ["--checkpoint", weights, "--images", str(tmp_path / name), "--out", str(tmp_path / "out")]
    assert predict.main(given) == 2
    assert name in capsys.readouterr().err and not started


def test_a_pipe_as_a_film_does_not_hang(tmp_path, weights, capsys):
    os.mkfifo(tmp_path / "film.png")
    given = ["--checkpoint", weights, "--images", str(tmp_path / "film.png"), "--out", str(tmp_path / "out")]
    assert predict.main(given) == 2
    assert "film.png" in capsys.readouterr().err


def test_a_study_compiles_into_a_folder_of_the_users_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with study._compilation_cache():
            directory = tmp_path / "cache/kneefair_jax/compiled"
            assert jax.config.jax_compilation_cache_dir == str(directory)
            assert directory.stat().st_mode & 0o777 == 0o700
        assert jax.config.jax_compilation_cache_dir is None
        directory.chmod(0o770)
        with study._compilation_cache():
            assert jax.config.jax_compilation_cache_dir is None
        assert "only you can write to" in capsys.readouterr().out
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
        with study._compilation_cache():
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("path", ["../outside.png", "masks/../../outside.png", "{absolute}"])
def test_a_path_of_a_table_that_leaves_its_folder(tmp_path, capsys, path):
    root = folder(tmp_path / "films")
    outside = tmp_path / "outside.png"
    shutil.copy(root / "masks/0.png", outside)
    table = root / "metadata.csv"
    named = path.format(absolute=outside)
    table.write_text(table.read_text().replace("masks/0.png", named))
    with pytest.raises(InputError, match=r"metadata\.csv row 2: mask") as error:
        modes.check(config(root), tmp_path / "run")
    assert named in str(error.value) and not (tmp_path / "run").exists()
    given = ["--truth", str(root), "--pred", str(root / "masks"), "--metadata", str(table)]
    assert audit.main([*given, "--attributes", "sex", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert one_line(err) and "row 2" in err and named in err and not (tmp_path / "out").exists()


def test_a_link_that_leaves_the_folder_of_films_is_followed_but_not_without_a_word(tmp_path, capsys):
    root = folder(tmp_path / "films")
    (root / "masks").rename(tmp_path / "elsewhere")
    (root / "masks").symlink_to(tmp_path / "elsewhere")
    made = config(root)
    made.check.against = ""
    modes.check(made, tmp_path / "run")
    assert "24 files are reached through symbolic links" in capsys.readouterr().out
    assert "row 2" in (tmp_path / "run/check/check.json").read_text()


def test_a_mask_that_changes_while_training_runs_is_not_scored_under_the_old_digest(
    trained, tmp_path, monkeypatch
):
    root = shutil.copytree(trained[0], tmp_path / "films")
    made = config(root)
    train = modes.experiment.stages.train

    def edit(*given):
        train(*given)
        for path in (root / "masks").iterdir():
            Image.fromarray(np.rot90(np.asarray(Image.open(path)), 2)).save(path)

    monkeypatch.setattr(modes.experiment.stages, "train", edit)
    with pytest.raises(InputError, match=r"case 'c\d+'.*changed since the cases were prepared"):
        modes.train(made, tmp_path / "run")
    assert not (tmp_path / "run/report").exists()


def test_a_link_in_the_folder_of_a_study(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "elsewhere").mkdir()
    trust.link(tmp_path / "study/runs", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="study/runs is a symbolic link"):
        study.run_study(synthetic_study.config(), tmp_path / "study")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_where_folds_are_reported_or_weights_exported(copied, tmp_path, capsys):
    root, workdir = copied
    (tmp_path / "elsewhere").mkdir()
    trust.link(workdir / "report", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="report is a symbolic link"):
        modes.train(folds_config(root), workdir)
    assert export.main([str(workdir)]) == 2
    assert one_line(capsys.readouterr().err)
    (workdir / "report").unlink()
    (workdir / "report.moved").rename(workdir / "report")
    (workdir / "export").mkdir()
    trust.pipe(workdir / "export/model.md")
    assert export.main([str(workdir)]) == 2
    err = capsys.readouterr().err
    assert one_line(err) and "model.md is a pipe" in err


def test_a_link_in_place_of_the_stores(copied, tmp_path):
    root, workdir = copied
    (tmp_path / "elsewhere").mkdir()
    made = config(root)
    made.data.store = str(tmp_path / "stores")
    (tmp_path / "stores").mkdir()
    trust.link(tmp_path / "stores/case_store", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="case_store is a symbolic link"):
        modes.evaluate_only(made, workdir)
    assert not list((tmp_path / "elsewhere").iterdir())
