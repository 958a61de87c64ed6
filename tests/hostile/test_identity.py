"""No output file of any command says who a patient is, where the films lay or which machine read them."""

import contextlib
import csv
import io
import json
import socket

import pydicom
import pytest

from configs import folder as folder_config
from kneefair_jax.audit import __main__ as audit
from kneefair_jax.errors import InputError
from kneefair_jax.export import __main__ as export
from kneefair_jax.predict import __main__ as predict
from kneefair_jax.runs import modes, study
from tests.hostile import identity
from tests.runs import synthetic_study

pytestmark = pytest.mark.usefixtures("terminal_log")

HOST = "planted-host.example"
PEOPLE = ("Smith", "Doe")  # in names of folders
HEADER = [identity.NAME, identity.BIRTH, identity.ACCESSION, identity.PATIENT]


def config(root, **changes):
    made = folder_config.get_config()
    made.data.update(
        {"root": str(root), "size": (16, 16), "structures": "femur,tibia", "attributes": ("sex",)}
    )
    made.data.update({"on_read_error": "skip", "workers": 0} | changes)
    made.model.update({"widths": (4,), "convolutions": 1})
    made.augment = dict.fromkeys(made.augment, 0.0) | {"flip": 0.5}
    made.train.update({"steps": 2, "eval_every": 2, "batch_size": 8})
    made.report.bootstrap_draws = 40
    made.check.against = ""
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of films and a run on it."""
    root = tmp_path_factory.mktemp("Smith, Jo (x) ") / "films"
    workdir = tmp_path_factory.mktemp("Doe, A. (y) ") / "run"
    identity.folder(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: HOST)
        modes.check(config(root), workdir)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            modes.train(config(root), workdir)
    assert export.main([str(workdir), "--name", "mine"]) == 0
    return root, workdir, printed.getvalue()


def secrets(*folders):
    return [*HEADER, HOST, *map(str, folders)]


@pytest.mark.slow
def test_a_run_its_check_its_report_and_its_export(trained):
    root, workdir, printed = trained
    names = {path.name for path in workdir.rglob("*")}
    assert {"excluded.csv", "check.json", "config.json", "content.json", "cases.parquet", "mine.md"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert identity.leaks(workdir, [*secrets(root.parent, workdir), *PEOPLE]) == []
    # What is odd about headers is printed at the start of the run, once, and is among the report's notes.
    kinds = "the pixel spacing of the films is of different kinds: calibrated in 12, header in 12 of 24 cases"
    assert printed.count(f"note: {kinds}") == 1
    notes = json.loads((workdir / "report/report.json").read_text())["cohort"]["notes"]
    assert sum(kinds[1:] in note for note in notes) == 1


@pytest.mark.slow
def test_the_run_is_resumed_and_evaluated_by_its_shortened_config(trained, tmp_path):
    root, workdir, _ = trained
    modes.evaluate_only(config(root), workdir)
    with pytest.raises(InputError, match="loss"):
        other = config(root)
        other.loss = "focal"
        modes.train(other, workdir)


@pytest.mark.parametrize(
    "kind", ["nifti", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("png", "dicomseg"))]
)
def test_predictions(trained, tmp_path, kind):
    root, workdir, _ = trained
    films = root / "images" / ("*.dcm" if kind == "dicomseg" else "c*")
    out = tmp_path / "Doe, A. (z)" / "out"
    given = ["--checkpoint", str(workdir), "--images", str(films), "--out", str(out)]
    assert predict.main([*given, "--format", kind, "--anonymous"]) == 0
    assert len(list((out / "masks").iterdir())) == (12 if kind == "dicomseg" else 24)
    assert identity.leaks(out, [*secrets(root.parent, workdir, tmp_path), *PEOPLE]) == []


def test_a_dicom_seg_carries_the_identity_unless_it_is_anonymous(trained, tmp_path):
    root, workdir, _ = trained
    film = root / "images/c0.dcm"
    given = ["--checkpoint", str(workdir), "--images", str(film), "--format", "dicomseg", "--no-overlays"]
    assert predict.main([*given, "--out", str(tmp_path / "named")]) == 0
    assert predict.main([*given, "--out", str(tmp_path / "anonymous"), "--anonymous"]) == 0
    source = pydicom.dcmread(film)
    named, anonymous = (pydicom.dcmread(tmp_path / name / "masks/c0.dcm") for name in ("named", "anonymous"))
    assert named.PatientName == identity.NAME and named.StudyInstanceUID == source.StudyInstanceUID
    assert anonymous.PatientName == "" and anonymous.PatientIdentityRemoved == "YES"
    assert str(source.StudyInstanceUID) not in str(anonymous)
    assert str(source.SOPInstanceUID) not in str(anonymous)
    assert anonymous.PixelData == named.PixelData


@pytest.mark.slow
def test_an_audit(trained, tmp_path, capsys):
    root, _, _ = trained
    table = list(csv.DictReader((root / "metadata.csv").read_text().splitlines()))[:-1]
    with (root / "audited.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    given = ["--truth", str(root / "masks"), "--pred", str(root / "masks"), "--images", str(root / "images")]
    given += [
        "--metadata",
        str(root / "audited.csv"),
        "--attributes",
        "sex",
        "--labels",
        "femur=1",
        "tibia=2",
    ]
    assert audit.main([*given, "--draws", "40", "--out", str(tmp_path / "report")]) == 0, capsys.readouterr()
    assert identity.leaks(tmp_path / "report", secrets(root.parent, tmp_path)) == []
    given = ["--scores", str(tmp_path / "report/cases.csv"), "--attributes", "sex", "--draws", "40"]
    assert audit.main([*given, "--out", str(tmp_path / "scores")]) == 0, capsys.readouterr()
    assert identity.leaks(tmp_path / "scores", secrets(root.parent, tmp_path)) == []


@pytest.mark.slow
def test_a_study(tmp_path, monkeypatch):
    def one(config, workdir, directory, training):
        synthetic_study.one(config, workdir, directory, training)
        print(f"report: {workdir.absolute()}/report/index.html")

    monkeypatch.setattr(study.experiment, "run_experiment", one)
    made = synthetic_study.config(methods=("erm", "equal_share"))
    with made.unlocked():
        made.data.store = str(tmp_path / "store")
    workdir = tmp_path / "Smith, Jo" / "study"
    study.run_study(made, workdir)
    log = (workdir / "runs/erm/seed_3/log.txt").read_text()
    assert "report: seed_3/report/index.html" in log and "Smith" not in log
    assert (workdir / "report/study.json").exists()
    assert identity.leaks(workdir, [*secrets(tmp_path), "Smith"]) == []
