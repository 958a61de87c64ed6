"""Files that no cohort can use: each is its row's line, in a run as in an audit, and the others are read."""

import csv

import pytest

from benchmarks import hostile_files
from benchmarks.hostile_inputs import cohort_files, image_files, table_files
from configs import folder as folder_config
from kneefair_jax.audit.__main__ import main as audit_main
from kneefair_jax.data import folder
from kneefair_jax.data.source import Example
from kneefair_jax.errors import InputError

# What takes seconds to write is left to `benchmarks/hostile.py`.
KINDS = {kind: value for kind, value in cohort_files.IN_COHORTS.items() if "bomb" not in kind} | {
    kind: image_files.FILMS[kind]
    for kind in (
        "link to itself",
        "link to a missing file",
        "empty PNG",
        "NIfTI broken off",
        "NPY of Python objects",
    )
}


def spoil(root, column, kinds):
    """Replaces the film or the mask of the first cases."""
    hostile_files.cohort(root)
    with (root / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, (number, (name, write)) in zip(rows, enumerate(kinds.values()), strict=False):
        path = root / f"bad{number}" / name
        path.parent.mkdir()
        write(path)
        row[column] = str(path.relative_to(root))
    hostile_files.write_table(root / "metadata.csv", rows)


@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_run_that_skips_reads_the_others(tmp_path, column):
    spoil(tmp_path, column, KINDS)
    data = folder_config.get_config().data
    data.update(
        {"root": str(tmp_path), "structures": "femur,tibia", "attributes": ("sex",), "on_read_error": "skip"}
    )
    source = folder.source(data, size=(16, 16), channels=1)
    results = list(source.read(range(len(source.cases))))
    for row, (result, (name, _)) in enumerate(zip(results, KINDS.values(), strict=False), start=2):
        assert isinstance(result, InputError)
        assert f"metadata.csv row {row}: " in str(result) and name in str(result)
    assert all(isinstance(result, Example) for result in results[len(KINDS) :])


@pytest.mark.parametrize("kind", ["pipe", "sparse NPY of 6.6 GB", "DICOM spacing with a decimal comma"])
def test_an_audit_names_the_row(tmp_path, monkeypatch, capsys, kind):
    made = next(one for one in cohort_files.KINDS if one.name == f"audit, mask: {kind}").make(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert audit_main(made[2:]) == 2
    printed = capsys.readouterr().err
    assert "metadata.csv row 5" in printed and cohort_files.IN_COHORTS[kind][0] in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [kind for kind in table_files.IDENTIFIERS if kind != "NUL"])
def test_an_identifier_is_refused_before_any_file_is_read(tmp_path, kind):
    hostile_files.cohort(tmp_path, {"case_id": table_files.IDENTIFIERS[kind]})
    data = folder_config.get_config().data
    data.update({"root": str(tmp_path), "structures": "femur,tibia", "attributes": ("sex",)})
    with pytest.raises(InputError, match=r"metadata\.csv row 5: case_id"):
        folder.source(data, size=(16, 16), channels=1)
