"""`check` decodes each file once, names what is wrong by case, and survives files that change or vanish meanwhile."""

import collections
import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax.data import cohort_loader, mask_files, readers, store
from kneefair_jax.errors import InputError
from kneefair_jax.preflight import check as preflight_check
from kneefair_jax.preflight import duplicates, faults
from kneefair_jax.runs import modes
from tests import films
from tests.hostile.test_geometry import no_timing
from tests.preflight.test_check import config

pytestmark = pytest.mark.usefixtures("terminal_log")

__all__ = ["no_timing"]

NAMES = ["c3", "c5", "c9"]


@pytest.fixture
def root(tmp_path):
    """Films of which no two masks are the same."""
    root = films.folder(tmp_path / "films")
    for k in range(24):
        with Image.open(root / f"masks/{k}.png") as image:
            mask = np.asarray(image).copy()
        mask[0, k] = 1
        Image.fromarray(mask).save(root / f"masks/{k}.png")
    return root


def check_folder(root, workdir, **changes):
    data = config(root, size=(20, 24), **changes).data
    cohort = cohort_loader.load(data, 0)
    external = cohort_loader.load_external(data, cohort)
    options = store.Options(on_read_error="skip")
    main, outside = cohort_loader.prepare(data, 0, cohort, external, workdir / "store", options)
    preflight_check.run(main, outside, workdir / "check", "")
    table = pd.read_csv(workdir / "check/faults.csv", keep_default_na=False)
    return json.loads((workdir / "check/check.json").read_text()), table


def test_each_file_is_decoded_once(root, tmp_path, monkeypatch):
    counts = collections.Counter()
    for module, name in ((readers, "read_radiograph"), (mask_files, "read")):
        original = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda path, *more, original=original: counts.update([path]) or original(path, *more),
        )
    check_folder(root, tmp_path / "run")
    assert len(counts) == 48 and set(counts.values()) == {1}
    check_folder(root, tmp_path / "run")
    assert set(counts.values()) == {1}


def test_files_that_vanish_or_change_meanwhile_are_named_and_the_rest_goes_on(
    root, tmp_path, monkeypatch, capsys
):
    read = preflight_check._read

    def tampered(prepared):
        (root / "images/5.png").unlink(missing_ok=True)
        (root / "masks/9.png").write_bytes((root / "masks/10.png").read_bytes())
        return read(prepared)

    monkeypatch.setattr(preflight_check, "_read", tampered)
    result, table = check_folder(root, tmp_path / "run")
    reasons = dict(result["cohort"]["unreadable"])
    assert set(reasons) == {"c5", "c9"} and result["cohort"]["cases"] == 24
    assert "5.png" in reasons["c5"] and "9.png" in reasons["c9"] and "changed" in reasons["c9"]
    assert str(tmp_path) not in str(reasons)
    assert table["case_id"][table["fault"] == "unreadable"].tolist() == ["c5", "c9"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines if line.startswith(("  c5: ", "  c9: "))] == [
        "c5",
        "c9",
    ]


@pytest.mark.usefixtures("no_timing")
def test_a_file_that_vanishes_while_it_is_prepared_is_left_out(root, tmp_path, monkeypatch):
    read = mask_files.read

    def vanishing(path, values):
        mask = read(path, values)
        if path.name == "3.png":
            path.unlink()
        return mask

    monkeypatch.setattr(mask_files, "read", vanishing)
    with pytest.raises(InputError, match=r"1 of 24 cases cannot be read.*\n.*3\.png"):
        modes.check(config(root), tmp_path / "run")
    result = json.loads((tmp_path / "run/check/check.json").read_text())["cohort"]
    ((case, why),) = result["unreadable"]
    assert case == "c3" and "masks/3.png" in why and result["cases"] == 23


def test_masks_that_several_cases_share_are_named(root, tmp_path, capsys):
    for n in (3, 5):
        with Image.open(root / "masks/9.png") as image:
            image.save(root / f"masks/{n}.png", compress_level=n)  # other bytes, the same pixels
    result, table = check_folder(root, tmp_path / "run")
    assert result["identical_masks"] == [{"cases": NAMES, "cohorts": ["cohort"] * 3, "patients": 3}]
    rows = table[table["fault"] == "identical mask"]
    assert rows["case_id"].tolist() == NAMES and "c5, c9" in rows["detail"].iloc[0]
    assert "c3, c5, c9" in capsys.readouterr().out


def test_masks_shared_with_an_external_cohort_are_named(root, tmp_path):
    other = films.folder(tmp_path / "other", patient="x")
    (other / "masks/1.png").write_bytes((root / "masks/9.png").read_bytes())
    result, table = check_folder(root, tmp_path / "run", external=str(other))
    shared = [group for group in result["identical_masks"] if set(group["cohorts"]) == {"cohort", "external"}]
    assert [group["cases"] for group in shared] == [["c9", "c1"]]
    assert {"cohort", "external"} == set(table["cohort"][table["fault"] == "identical mask"])


def test_masks_in_other_units_than_their_films_are_named(root, tmp_path, capsys):
    table = pd.read_csv(root / "metadata.csv").drop(columns="spacing_mm")
    for n in range(24):
        for name in ("images", "masks"):
            with Image.open(root / f"{name}/{n}.png") as image:
                array = np.asarray(image).T[..., None]
            mm = 3.0 if name == "masks" and n in (3, 5, 9) else 0.3
            made = nibabel.Nifti1Image(array, np.diag([-mm, -mm, 1, 1]))
            made.header.set_xyzt_units("mm")
            nibabel.save(made, root / f"{name}/{n}.nii.gz")
    for name in ("image", "mask"):
        table[name] = table[name].str.replace(".png", ".nii.gz")
    table.to_csv(root / "metadata.csv", index=False)
    result, listed = check_folder(root, tmp_path / "run")
    assert list(result["cohort"]["header_notes"]) == NAMES
    rows = listed[listed["fault"] == "header"]
    assert rows["case_id"].tolist() == NAMES and rows["detail"].str.contains("3 x 3 mm").all()
    assert "3 of 24 cases: c3, c5, c9" in capsys.readouterr().out


def test_no_cell_of_the_table_is_a_formula_or_holds_a_path(tmp_path):
    folder = tmp_path / "Smith, Jo (x)"
    part = {"unreadable": [["=1", f"{folder}/a b, c.png: gone"]], "orientation": {"turned": []}}
    part |= {"interpolated": [], "unknown_spacing": ["c7"], "header_notes": {}, "absent": {}, "outliers": []}
    table = faults.table(
        {"cohort": part, "identical_masks": [], "identical_films": [], "near_duplicates": []}, ["cohort"]
    )
    faults.write(tmp_path / "faults.csv", table, [folder])
    text = (tmp_path / "faults.csv").read_text()
    assert "'=1" in text and str(tmp_path) not in text and "a b, c.png" in text
    assert "cohort,c7,spacing,neither" in text and "spacing_mm" in text


def test_equal_digests_are_grouped():
    assert duplicates.identical(["a", "b", "a", "", "", "c", "b", "a"]) == [[0, 2, 7], [1, 6]]
    assert duplicates.identical([]) == []


def test_notes_on_headers_of_both_cohorts_are_among_the_run_s_notes_once(root, tmp_path):
    other = films.folder(tmp_path / "other", patient="x")
    table = pd.read_csv(other / "metadata.csv")
    table.loc[table["case_id"].isin(NAMES), "spacing_mm"] = np.nan
    table.to_csv(other / "metadata.csv", index=False)
    data = config(root, size=(20, 24), external=str(other)).data
    cohort = cohort_loader.load(data, 0)
    external = cohort_loader.load_external(data, cohort)
    main, _ = cohort_loader.prepare(data, 0, cohort, external, tmp_path / "store", store.Options())
    notes = [note for note in main.cohort.notes() if "pixel spacing" in note]
    assert len(notes) == 1 and notes[0].startswith("external cohort: ")
    assert "table in 21, unknown in 3 of 24 cases" in notes[0]


def test_identifiers_stay_as_they_are_and_a_row_names_three_other_cases(tmp_path):
    ids = [f"/site/{name}/c05" for name in "vwxyz"]
    part = {"unreadable": [[ids[0], "/home/jo/a.png: gone"]], "orientation": {"turned": []}}
    part |= {"interpolated": [], "unknown_spacing": [], "header_notes": {}, "absent": {}, "outliers": []}
    group = {"cases": ids, "cohorts": ["cohort"] * 5}
    result = {"cohort": part, "identical_masks": [group], "identical_films": [], "near_duplicates": []}
    faults.write(tmp_path / "faults.csv", faults.table(result, ["cohort"]), [])
    table = pd.read_csv(tmp_path / "faults.csv")
    assert table["case_id"].tolist() == [ids[0], *ids]
    assert table["detail"].tolist()[:2] == [
        "a.png: gone",
        f"the same mask as {', '.join(ids[1:4])} and 1 more",
    ]
    cleaned = preflight_check._without_paths({"a": [[ids[0], "/home/jo/a.png: gone"]]}, set(ids), [])
    assert cleaned == {"a": [[ids[0], "a.png: gone"]]}
