"""The command lines of `kneefair train` and `evaluate`: a run's folder, and a dry run."""

import importlib
import shlex
import subprocess
import sys

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from kneefair_jax.cli import dry_run, launch
from kneefair_jax.configs import folder
from kneefair_jax.errors import InputError
from kneefair_jax.preflight import hardware
from kneefair_jax.report import page, pdf
from kneefair_jax.runtime import run_files
from tests import films


def test_a_run_s_folder_stands_for_its_config_and_its_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    argv = ["kneefair evaluate", str(tmp_path), "--config.select=utopia"]
    expected = [f"--config={tmp_path}/config.json", f"--workdir={tmp_path}", "--config.select=utopia"]
    assert launch.with_run_folder(argv, "evaluate") == [argv[0], *expected]
    assert launch.with_run_folder(argv, "train") == argv
    assert launch.with_run_folder(["launch.py", "--mode=evaluate"], "evaluate")[1:] == ["--mode=evaluate"]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        launch.with_run_folder(["kneefair evaluate", str(tmp_path)], "evaluate")


@pytest.mark.parametrize("is_timed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dry_run_shows_cohort_steps_and_time_and_writes_nothing(is_timed, tmp_path, monkeypatch, caplog):
    config = folder.get_config()
    config.data.update({"root": str(films.folder(tmp_path / "films")), "size": (16, 16)})
    config.model.update({"widths": (2, 4), "convolutions": 1})
    config.augment = dict.fromkeys(config.augment, 0.0)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(hardware, "SECONDS", 0)
    if not is_timed:
        monkeypatch.setattr(dry_run, "_training_seconds", lambda config, cohort: 65.0)
    with caplog.at_level("INFO", "kneefair_jax"):
        dry_run.show("train", config, tmp_path / "empty" / "run")
        assert "time: not estimated; --time" in caplog.text
        dry_run.show("train", config, tmp_path / "empty" / "run", timed=True)
    text = caplog.text
    assert "train: " in text and f"{config.train.steps} steps of {config.train.batch_size} cases" in text
    assert "time on this machine: about" in text and (is_timed or "about 1m05s for" in text)
    assert not list((tmp_path / "empty").iterdir())


def test_the_summary_of_an_earlier_report_is_replaced_or_deleted(tmp_path, monkeypatch, capsys):
    (tmp_path / "report").mkdir()
    summary = tmp_path / "report/summary.pdf"
    monkeypatch.setattr(run_files, "read_report", lambda path: {"path": path.name})
    monkeypatch.setattr(page, "summary_page", lambda report: report["path"])
    monkeypatch.setattr(pdf, "write", lambda path, html: path.write_text(html))
    launch._print_summary(tmp_path, with_pdf=True)
    assert summary.read_text() == "report.json" and str(summary) in capsys.readouterr().out
    launch._print_summary(tmp_path, with_pdf=False)
    assert not summary.exists() and f"deleted {summary}" in capsys.readouterr().out
    launch._print_summary(tmp_path, with_pdf=False)
    assert capsys.readouterr().out == ""


@pytest.fixture
def run_flags():
    with flagsaver.flagsaver():
        launch.define_flags(["launch.py"])
        yield


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workdr=runs/a"], "did you mean --workdir?"),
        (["--config=smoke", "-qqq"], "there is no flag --qqq"),
        (["--config=smoke", "--data.root=knees"], "did you mean --config.data.root?"),
        (["--config=smok", "--workdir=a"], "did you mean 'smoke'?"),
        (["--config", "nothing_like_it"], "nothing_like_it"),
        (["--config=absent/config.json"], "absent/config.json"),
        (["--config.train.stepz=3"], "did you mean train.steps?"),
        (["--config=smoke", "--config.data.root", "-knees"], "--workdir"),
        (["--workdir=a", "--mode=train"], "--config"),
        (["--config", "smoke", "--workdir", "a", "-mode", "trian"], "--mode=trian"),
        (["--config=smoke", "--workdir=a", "--processes=two"], "--processes=two"),
    ],
)
def test_unknown_names_are_refused(run_flags, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        launch.check_names(["launch.py", *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    "words",
    [
        ["--config=study:long", "--workdir=runs/-a", "--nodry-run", "-mode", "train", "--process", "-1"],
        ["--config", "smoke", "--workdir=a", "--config.train.steps=3", "--v=1", "--", "--anything"],
        ["--config=smoke", "--workdir", "a", "--undefok=other", "--other=3"],
        ["--config", "smoke", "--config.data.root", "-knees", "--noconfig.model.remat", "--workdir=a"],
    ],
)
def test_known_names_are_accepted(run_flags, words):
    launch.check_names(["launch.py", *words])


def test_the_flags_of_libraries_are_known_before_their_import(run_flags):
    jax.config.config_with_absl()
    importlib.import_module("kneefair_jax.runs.modes")
    modules = flags.FLAGS.flags_by_module_dict()
    names = [
        flag.name
        for module, definitions in modules.items()
        if module.partition(".")[0]
        in {"array_record", "chex", "grain", "jax", "orbax", "tensorflow_datasets"}
        for flag in definitions
    ]
    assert len(names) > 20
    assert launch.unknown_flag(["launch.py", *(f"--{name}=1" for name in names)]) == ""


def test_a_wrong_command_is_refused_without_jax():
    code = (
        "import sys\n"
        "from kneefair_jax.cli import launch\n"
        "try:\n"
        "    launch.start(['kneefair train', *sys.argv[1:]])\n"
        "except SystemExit as stop:\n"
        "    print(stop.code, 'jax' in sys.modules)\n"
    )
    for words in (
        ["--config=absent", "--workdir=a"],
        ["--config=smoke", "--workdir=a", "--absent"],
        ["--config=smoke"],
        ["--config=smoke", "--workdir=a", "--mode=trian"],
    ):
        result = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        assert result.stdout == "2 False\n" and result.stderr.startswith("error: ")


def test_a_check_has_no_dry_run(tmp_path):
    with pytest.raises(InputError, match="--dry-run"):
        dry_run.show("check", folder.get_config(), tmp_path)


def test_the_command_after_a_check_trains_with_its_flags(tmp_path):
    fields = ["--config=folder", "--config.data.root=my knees", "--config.data.attributes=('sex','age')"]
    workdir = f"--workdir={tmp_path}"
    expected = ["kneefair", "train", *fields, workdir]
    for argv in (
        ["bin/kneefair", "check", *fields, workdir, "--overwrite"],
        ["launch.py", "--mode=check", *fields, workdir],
        ["launch.py", *fields, "-mode", "check", "--nooverwrite", workdir],
    ):
        assert shlex.split(launch.next_command(argv, "train")) == expected
    separate = ["--workdir", "check", "--config", "study_folder", "--config.data.root", "mode"]
    words = shlex.split(launch.next_command(["kneefair", "check", *separate], "study"))
    assert words == ["kneefair", "study", *separate]
