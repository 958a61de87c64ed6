"""Masks are matched to cases by case id or, where `kneefair predict` named them, by the names of the films."""

import numpy as np
import pytest

from kneefair_jax.audit import cases, files
from kneefair_jax.audit.options import CaseOptions
from kneefair_jax.errors import InputError
from tests.audit import folder

MASK = np.eye(4, dtype=np.uint8)


def matched(root, images, predictions, on_missing="stop"):
    """Match predictions to the cases of a table that `kneefair init` could have drafted."""
    rows = [
        {"case_id": f"q{i}", "sex": "fm"[i % 2], "image": image, "mask": f"masks/{i}.png"}
        for i, image in enumerate(images)
    ]
    folder.write_table(root / "metadata.csv", rows)
    for i in range(len(images)):
        folder.save(MASK, root / "masks" / f"{i}.png")
    for name in predictions:
        folder.save(MASK, root / "pred" / name)
    cohort = cases.read(root / "metadata.csv", ["sex"], CaseOptions())
    result = files.match(cohort, root, {"": root / "pred"}, None, on_missing, ())
    return {
        case: path.relative_to(root / "pred").as_posix() for case, path in result.predictions[""].items()
    }, cohort.notes


@pytest.mark.parametrize("folder_of_masks", ["", "films/"])
def test_predictions_have_the_names_of_their_films(tmp_path, folder_of_masks):
    names = [f"{folder_of_masks}{name}.png" for name in ("a", "b")]
    by_case, notes = matched(tmp_path, ["films/a.dcm", "films/b.nii.gz"], names)
    assert by_case == {"q0": names[0], "q1": names[1]}
    assert any("column image" in note for note in notes)


def test_films_of_one_name_are_distinguished_by_their_folders(tmp_path):
    names = ["x/a.png", "y/a.png"]
    assert matched(tmp_path, ["x/a.dcm", "y/a.dcm"], names)[0] == {"q0": names[0], "q1": names[1]}


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["x/a.dcm", "y/a.dcm"], ["a.png"]),  # which of the films?
        (["a.dcm", "b.dcm"], ["x/a.png", "y/a.png", "x/b.png"]),  # which of the masks?
    ],
)
def test_ambiguous_names_are_refused(tmp_path, images, names):
    with pytest.raises(InputError, match=r"--pred .*no prediction for 2 of 2 cases"):
        matched(tmp_path, images, names)


@pytest.mark.parametrize(
    ("images", "is_shared"), [(["", "b.dcm", "c.dcm"], False), (["x/a.dcm", "y/a.dcm", "c.dcm"], True)]
)
def test_an_empty_or_shared_name_of_a_film_hides_no_other(tmp_path, images, is_shared):
    names = ["a.png", "b.png", "c.png"]
    by_case, notes = matched(tmp_path, images, names, "zero")
    assert by_case == ({} if is_shared else {"q1": "b.png"}) | {"q2": "c.png"}
    assert any("a.png) have a name that several films" in note for note in notes) == is_shared
    with pytest.raises(InputError, match=f"no prediction for {3 - len(by_case)} of 3 cases"):
        matched(tmp_path, images, names)


def test_a_refusal_names_up_to_five_missing_cases_of_every_model(tmp_path):
    table = [{"case_id": f"q{k}", "sex": "fm"[k % 2]} for k in range(8)]
    folder.write_table(tmp_path / "metadata.csv", table)
    for name in ("truth", "a", "b", "c"):
        (tmp_path / name).mkdir()
        for k in range({"a": 2, "b": 6}.get(name, 8)):
            folder.save(MASK, tmp_path / name / f"q{k}.png")
    cohort = cases.read(tmp_path / "metadata.csv", ["sex"], CaseOptions())
    models = {name: tmp_path / name for name in "abc"}
    with pytest.raises(InputError) as error:
        files.match(cohort, tmp_path / "truth", models, None, "stop", ())
    first, second = str(error.value).splitlines()
    assert "no prediction by a for 6 of 8 cases (such as q2, q3, q4, q5, q6)" in first
    assert "no prediction by b for 2 of 8 cases (q6, q7)" in second and "--link-dir" not in second
    for k in range(6):
        (tmp_path / "b" / f"q{k}.png").rename(tmp_path / "b" / f"other{k}.png")
    with pytest.raises(InputError, match="--link-dir"):
        files.match(cohort, tmp_path / "truth", models, None, "skip", ())


def test_a_case_id_precedes_the_name_of_a_film(tmp_path):
    by_case, notes = matched(tmp_path, ["a.dcm", "b.dcm"], ["q0.png", "a.png", "b.png"], "zero")
    assert by_case == {"q0": "q0.png"} and not any("column image" in note for note in notes)
