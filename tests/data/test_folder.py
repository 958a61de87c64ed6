import json
import os
import pickle
import re

import nibabel
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from PIL import Image

from kneefair_jax.data import folder
from kneefair_jax.errors import InputError

CONFIG = {
    "root": "",
    "metadata": "metadata.csv",
    "structures": "femur,tibia",
    "attributes": ("sex", "age"),
    "bins": {"age": (50, 64)},
    "split_column": "",
    "on_read_error": "stop",
}


def table(**columns):
    """Four cases of three patients."""
    rows = {
        "case_id": ["a", "b", "c", "d"],
        "patient_id": ["P1", "P1", "P2", "P3"],
        "image": [f"images/{i}.png" for i in range(4)],
        "mask": [f"masks/{i}.png" for i in range(4)],
        "sex": ["male", "female", "NA", "male"],
        "age": ["50", "70", "", "51"],
    }
    return pd.DataFrame(rows | columns)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (8, 12), np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(rng.integers(0, 3, (8, 12), np.uint8)).save(tmp_path / f"masks/{i}.png")
    table().to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path


def source(root, size=(4, 6), channels=1, **changes):
    return folder.source(ConfigDict(CONFIG | {"root": str(root)} | changes), size=size, channels=channels)


def everything(given):
    return list(given.read(range(len(given.cases))))


def test_what_may_explain_a_gap_is_kept_beside_the_attributes(root):
    others = {"BMI": ["22.5", "", "31", "30"], "site": ["1", "2", "2", "1"], "barcode": list("wxyz")}
    table(**others).to_csv(root / "metadata.csv", index=False)
    cases = source(root, attributes=("sex",), bins={}).cases
    assert list(cases) == ["case_id", "patient_id", "sex", "age", "BMI", "site"]
    np.testing.assert_array_equal(cases["age"], [50, 70, np.nan, 51])
    np.testing.assert_array_equal(cases["BMI"], [22.5, np.nan, 31, 30])
    assert list(cases["site"]) == ["1", "2", "2", "1"]
    # In bins it is an attribute, and stays in bins.
    assert list(source(root).cases["age"]) == ["<=50", ">=65", "missing", "51-64"]


def test_whole_cases_are_the_files_own(root):
    table(spacing_mm=["0.5x0.25", "", "1", "1"]).to_csv(root / "metadata.csv", index=False)
    given = source(root)
    (whole,), small = given.read_native([0]), everything(given)[0]
    np.testing.assert_array_equal(whole.image[..., 0], np.array(Image.open(root / "images/0.png")))
    np.testing.assert_array_equal(whole.label, np.array(Image.open(root / "masks/0.png")))
    np.testing.assert_allclose(whole.spacing, [0.5, 0.25])
    np.testing.assert_allclose(small.spacing, [1, 0.5])  # half the pixels each way


def test_source_by_hand(root):
    given = source(root)
    assert given.structures == ("femur", "tibia")
    assert given.cases["case_id"].tolist() == ["a", "b", "c", "d"]
    assert given.cases["patient_id"].tolist() == ["P1", "P1", "P2", "P3"]
    assert given.cases["sex"].tolist() == ["male", "female", "missing", "male"]
    assert given.cases["age"].tolist() == ["<=50", ">=65", "missing", "51-64"]
    assert "split" not in given.cases
    for _ in range(2):  # can be read again
        examples = everything(given)
        assert [example.image.shape for example in examples] == [(4, 6, 1)] * 4
        assert all(np.isnan(example.spacing).all() for example in examples)


def test_examples_are_the_files_in_the_order_of_the_table(root):
    many = pd.concat([table()] * 10)[::-1]
    many["case_id"] = [f"case {i}" for i in range(40)]
    many.to_csv(root / "metadata.csv", index=False)
    for example, row in zip(everything(source(root, (8, 12))), many.itertuples(), strict=True):
        np.testing.assert_array_equal(example.image[..., 0], np.asarray(Image.open(root / row.image)))
        np.testing.assert_array_equal(example.label, np.asarray(Image.open(root / row.mask)))
        assert example.label.dtype == np.uint8


def test_spacing_from_the_table_then_the_header_scaled_by_the_resize(root):
    for x_mm, name in ((0.2, "s.nii"), (4.0, "t.nii")):
        image = nibabel.Nifti1Image(np.ones((12, 8), np.uint8), np.diag([-x_mm, -0.3, 1, 1]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, root / "images" / name)
    files = ["images/s.nii", "images/t.nii", "images/2.png", "images/3.png"]
    table(image=files, spacing_mm=["", "0.5", "0.3x0.2", ""]).to_csv(root / "metadata.csv", index=False)
    spacing = [example.spacing for example in everything(source(root, (4, 3)))]
    np.testing.assert_allclose(spacing, [[0.6, 0.8], [1, 2], [0.6, 0.8], [np.nan] * 2], rtol=1e-6)


def test_colour_becomes_grey_or_stays(root):
    rgb = np.random.default_rng(1).integers(0, 255, (8, 12, 3), np.uint8)
    for i in range(4):
        Image.fromarray(rgb).save(root / f"images/{i}.png")
    grey = next(source(root, (8, 12)).read([0])).image[..., 0]
    np.testing.assert_allclose(grey, rgb @ [0.299, 0.587, 0.114], atol=1)
    np.testing.assert_array_equal(next(source(root, (8, 12), 3).read([0])).image, rgb)


def test_auto_names_the_labels_of_the_masks(root):
    assert source(root, structures="auto").structures == ("structure 1", "structure 2")


def test_split_column_is_taken_over(root):
    table(fold=["train", "Train", "val", "test"]).to_csv(root / "metadata.csv", index=False)
    cases = source(root, split_column="fold").cases
    assert cases["split"].tolist() == ["train", "train", "validation", "test"]


def test_numbers_with_few_levels_are_codes_and_none_is_a_level(root):
    table(grade=["0", "4", "", "0"], implant=["none", "none", "null", "left"]).to_csv(
        root / "metadata.csv", index=False
    )
    cases = source(root, attributes=("grade", "implant")).cases
    assert cases["grade"].tolist() == ["0", "4", "missing", "0"]
    assert cases["implant"].tolist() == ["none", "none", "missing", "left"]


def test_settings_follow_the_arrays_and_nothing_else(root):
    before = json.dumps(source(root).settings)
    assert str(root) not in before and "male" not in before
    assert json.dumps(source(root, attributes=("sex",)).settings) == before
    changed = [source(root, size=(8, 6)), source(root, channels=3), source(root, structures="a,b")]
    os.utime(root / "masks/2.png", ns=(1, 1))
    changed.append(source(root))
    assert len({before, *(json.dumps(other.settings) for other in changed)}) == 5


# Each edits the folder or the table; the message names the row and the remedy.
def drop(column):
    return lambda root: table().drop(columns=column).to_csv(root / "metadata.csv", index=False)


def put(**columns):
    return lambda root: table(**columns).to_csv(root / "metadata.csv", index=False)


def write(text):
    return lambda root: (root / "metadata.csv").write_bytes(text)


def wide(root):
    pd.concat([table()] * 3).assign(
        case_id=[f"c{i}" for i in range(12)], age=[str(40.5 + i) for i in range(12)]
    ).to_csv(root / "metadata.csv", index=False)


BAD_TABLES = [
    (lambda root: (root / "metadata.csv").unlink(), {}, "metadata.csv: no such file; set data.root"),
    (write(b""), {}, "malformed CSV; .* row 1"),
    (write(b"case_id,case_id\n1,2\n"), {}, "malformed CSV; .* row 1"),
    (write(b'case_id,patient_id,image,mask\na,"b,c,d\n'), {}, r"malformed CSV \(.*save it as UTF-8"),
    (write(b"case_id,patient_id,image,mask\n\x81,b,c,d\n"), {}, r"malformed CSV \(.*save it as UTF-8"),
    (write(b"case_id,patient_id,image,mask\n\na,b,c\n"), {}, "row 3: malformed CSV: 3 cells under 4"),
    (drop("patient_id"), {}, "'patient_id' is missing; add it .repeat case_id.*case_id, image"),
    (drop("mask"), {}, "'mask' is missing; add it"),
    (drop("sex"), {}, "names 'sex', which is not an attribute column.*: age"),
    (put(), {"attributes": ("sex", "sex")}, "names 'sex' twice"),
    (put(), {"attributes": ("patient_id",)}, "names 'patient_id', which is not an attribute"),
    (put(), {"split_column": "fold"}, "split_column is 'fold'; set it to '' or one of"),
    (put(case_id=["a", "b", "", "d"]), {}, "row 4: case_id is empty; fill it in"),
    (put(patient_id=["P1", "NA", "P2", "P3"]), {}, "row 3: patient_id 'NA' is read as missing"),
    (put(mask=["", *table()["mask"][1:]]), {}, "row 2: mask is empty"),
    (put(case_id=["a", "b", "c", "b"]), {}, "row 5: case_id 'b' is also in row 3; give each case"),
    (
        lambda root: (root / "images/1.png").unlink(),
        {},
        r"row 3: image .*1.png: no such file; correct the path",
    ),
    (lambda root: (root / "masks/3.png").unlink(), {}, r"row 5: mask .*3.png: no such file"),
    (put(mask=["/m.png", *table()["mask"][1:]]), {}, "row 2: mask /m.png: write the path relative"),
    (put(sex=["", "", "NA", ""]), {}, "metadata.csv: column 'sex' is empty; fill it in"),
    (put(age=["50", "7O", "", "51"]), {}, "row 3: age '7O' is not a number; correct it"),
    (put(age=["50", "inf", "", "51"]), {}, "row 3: age 'inf' is not a number"),
    (wide, {"bins": {}}, "metadata.csv: column 'age' holds 12 different numbers; set data.bins"),
    (put(), {"bins": {"age": (64, 50)}}, "ascending"),
    (put(spacing_mm=["1", "0", "1", "1"]), {}, "row 3: spacing_mm '0' is not positive"),
    (put(spacing_mm=["1", "1", "wide", "1"]), {}, "row 4: spacing_mm 'wide' is not positive"),
    (put(spacing_mm=["1", "1", "1", "1x2x3"]), {}, "row 5: spacing_mm '1x2x3' is not positive"),
    (
        put(s=["train", "train", "dev", "test"]),
        {"split_column": "s"},
        "row 4: split 'dev' is unknown; use train",
    ),
    (
        put(s=["train", "test", "val", "test"]),
        {"split_column": "s"},
        "case 'a' in train and case 'b' in test",
    ),
]


def test_impossible_ages_are_noted(root):
    put(age=["50", "999", "", "-1"])(root)
    (note,) = source(root).notes
    assert "2 of 4 rows have an age below 0" in note and "999" in note


@pytest.mark.parametrize(("damage", "changes", "message"), BAD_TABLES)
def test_bad_tables_are_refused_at_once(root, damage, changes, message):
    damage(root)
    with pytest.raises(InputError, match=message):
        source(root, **changes)


def save(array, name):
    return lambda root: Image.fromarray(array).save(root / name)


BAD_PIXELS = [
    (lambda root: (root / "images/1.png").write_bytes(b"?"), {}, r"row 3: .*1.png: unreadable file"),
    (lambda root: (root / "masks/0.png").write_bytes(b"?"), {}, r"row 2: .*0.png: unreadable file"),
    (
        save(np.ones((8, 11), np.uint8), "masks/2.png"),
        {},
        r"row 4: .*2.png: mask and image differ .*\(8, 11\) and \(8, 12\).*one grid",
    ),
    (
        save(np.full((8, 12), 255, np.uint8), "masks/2.png"),
        {},
        "row 4: .*2.png: .*255.*structures=femur=255.*data.ignore_label=255",
    ),
    (put(), {"channels": 3}, "row 2: .*has 1 channel, not 3"),
]


@pytest.mark.parametrize(("damage", "changes", "message"), BAD_PIXELS)
def test_a_row_without_arrays_says_why_and_the_others_are_read(root, damage, changes, message):
    damage(root)
    results = everything(source(root, **changes))
    broken = [result for result in results if isinstance(result, InputError)]
    assert re.search(r"metadata.csv " + message, str(broken[0]))
    assert len(results) == 4 and len(broken) == (4 if changes else 1)


def test_a_missing_file_is_left_to_the_reading_where_broken_cases_are_skipped(root):
    there = json.dumps(source(root, on_read_error="skip").settings)
    assert there == json.dumps(source(root).settings)
    (root / "masks/1.png").unlink()
    given = source(root, on_read_error="skip")
    results = everything(given)
    assert [isinstance(result, InputError) for result in results] == [False, True, False, False]
    assert re.search("metadata.csv row 3: .*1.png: no such file", str(results[1]))
    assert json.dumps(given.settings) != there  # read anew once it is there


def test_rows_are_read_in_any_order_and_in_another_process(root):
    given = source(root, (8, 12))
    again = pickle.loads(pickle.dumps(given.read))([3, 0, 3])
    for row, example in zip((3, 0, 3), again, strict=True):
        np.testing.assert_array_equal(
            example.image[..., 0], np.asarray(Image.open(root / f"images/{row}.png"))
        )
    assert given.portable


def test_auto_leaves_an_unreadable_mask_to_the_reading(root):
    (root / "masks/0.png").write_bytes(b"?")
    given = source(root, structures="auto")
    assert given.structures == ("structure 1", "structure 2")
    assert isinstance(next(given.read([0])), InputError)


@pytest.mark.parametrize("value", [0, 255])
def test_auto_refuses_masks_without_numbered_structures(root, value):
    for i in range(4):
        save(np.full((8, 12), value, np.uint8), f"masks/{i}.png")(root)
    with pytest.raises(InputError, match=f"highest label in the masks is {value}"):
        source(root, structures="auto")


def test_five_problems_are_listed_and_all_counted(root):
    put(case_id=["", "", "", ""], age=["x", "y", "", "51"])(root)
    with pytest.raises(InputError) as error:
        source(root)
    lines = str(error.value).split("\n")
    assert "6 problems" in lines[0] and len(lines) == 6
    assert [line.split(" row ")[1][:2] for line in lines[1:]] == ["2:", "2:", "3:", "3:", "4:"]


def put_void(root):
    """Void in every mask but the last: the first two columns."""
    labels = []
    for i in range(4):
        label = np.array(Image.open(root / f"masks/{i}.png"))
        label[:, :2] = label[:, :2] if i == 3 else 255
        save(label, f"masks/{i}.png")(root)
        labels.append(label)
    return labels


def test_void_pixels_come_through_the_reading(root):
    labels = put_void(root)
    given = source(root, (8, 12), ignore_label=255)
    assert given.void and not any("void" in note for note in given.notes)  # nothing is read yet
    for read in (given.read, given.read_native):
        for example, label in zip(read(range(4)), labels, strict=True):
            np.testing.assert_array_equal(example.label, label)
            assert example.label.dtype == np.uint8
    np.testing.assert_array_equal(
        everything(source(root, (4, 6), ignore_label=255))[0].label == 255, [[1, 0, 0, 0, 0, 0]] * 4
    )
    assert source(root, structures="auto", ignore_label=255).structures == ("structure 1", "structure 2")
    refused = everything(source(root))
    assert [isinstance(one, InputError) for one in refused] == [True, True, True, False]
    assert re.search(r"row 2: .*0.png: .*255.*data.ignore_label=255", str(refused[0]))
    external = everything(source(root, prefix="data.external_"))
    assert "data.external_ignore_label=255" in str(external[0])


def test_without_void_pixels_the_label_map_changes_no_array(root):
    plain, given = source(root), source(root, ignore_label=255)
    assert not plain.void and "ignore_label" not in plain.settings and plain.settings != given.settings
    for one, other in zip(everything(plain), everything(given), strict=True):
        assert one.inspection == other.inspection
        for array, same in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(array, same)


def test_a_mask_of_void_alone_has_no_arrays(root):
    save(np.full((8, 12), 255, np.uint8), "masks/2.png")(root)
    results = everything(source(root, ignore_label=255))
    assert [isinstance(one, InputError) for one in results] == [False, False, True, False]
    assert re.search(r"row 4: .*2.png: .*remove the row", str(results[2]))


def test_a_structure_may_have_a_value_of_its_own(root):
    for i in range(4):
        label = np.array(Image.open(root / f"masks/{i}.png"))
        save(np.array([0, 255, 7], np.uint8)[label], f"masks/{i}.png")(root)
    given = source(root, (8, 12), structures="femur=255,tibia=7")
    assert given.structures == ("femur", "tibia") and given.settings["values"] == [255, 7]
    assert {label for one in everything(given) for label in np.unique(one.label)} == {0, 1, 2}


def by_structure(root):
    """The masks again, one file a structure, with values 0 and 255; the column `mask` names no file."""
    for i in range(4):
        label = np.array(Image.open(root / f"masks/{i}.png"))
        for value, name in enumerate(("femur", "tibia"), start=1):
            save(np.where(label == value, 255, 0).astype(np.uint8), f"masks/{i}_{name}.png")(root)
    put(mask=[f"masks/{i}" for i in range(4)])(root)


def test_one_file_a_structure_is_read_as_one_mask(root):
    whole = everything(source(root, (8, 12)))
    by_structure(root)
    given = source(root, (8, 12))
    for one, other in zip(everything(given), whole, strict=True):
        np.testing.assert_array_equal(one.label, other.label)
    assert [path.name for path in given.files(1)] == ["1.png", "1_femur.png", "1_tibia.png"]
    assert pickle.loads(pickle.dumps(given.read)) is not None
    os.utime(root / "masks/2_tibia.png", ns=(1, 1))
    assert source(root, (8, 12)).settings != given.settings


def test_a_structure_without_a_file_is_named_by_row(root):
    by_structure(root)
    (root / "masks/2_tibia.png").unlink()
    with pytest.raises(InputError, match=r"row 4: mask .*2_femur.png.*'tibia'"):
        source(root)
    results = everything(source(root, on_read_error="skip"))
    assert [isinstance(one, InputError) for one in results] == [False, False, True, False]
    assert re.search(r"row 4: .*2_femur.png.*'tibia'", str(results[2]))
    with pytest.raises(InputError, match=r"row 2: mask .*masks/0: .*0_STRUCTURE.png.*data.structures"):
        source(root, structures="auto")


@pytest.mark.parametrize("structures", ["a,b,c", "a=2,b=1,c=3", "c=3,b=2,a=1"])
def test_interpolated_masks_are_known_in_any_order_of_the_structures(tmp_path, structures):
    mask = np.zeros((64, 64), np.uint8)
    mask[8:30], mask[30:32], mask[32:56], mask[56:] = 1, 2, 3, 2  # a rim of 2 between 1 and 3
    for i, one in enumerate((mask, np.where(mask == 2, 0, mask))):
        Image.fromarray(one).save(tmp_path / f"m{i}.png")
        Image.fromarray(one * 50).save(tmp_path / f"i{i}.png")
    rows = {"case_id": ["a", "b"], "patient_id": ["a", "b"], "sex": ["f", "m"]}
    rows |= {"image": ["i0.png", "i1.png"], "mask": ["m0.png", "m1.png"]}
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    config = CONFIG | {"root": str(tmp_path), "structures": structures, "attributes": ("sex",)}
    cases = folder.source(config, size=(64, 64), channels=1).read([0, 1])
    assert [case.inspection.interpolated for case in cases] == [True, False]


def test_a_void_label_is_refused_where_masks_have_one_file_a_structure(root):
    for k in range(4):
        with Image.open(root / f"masks/{k}.png") as image:
            mask = np.asarray(image)
        (root / f"masks/{k}.png").unlink()
        for value, name in enumerate(("femur", "tibia"), start=1):
            Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)).save(
                root / f"masks/{k}_{name}.png"
            )
    table(mask=[f"masks/{k}" for k in range(4)]).to_csv(root / "metadata.csv", index=False)
    assert not source(root).void
    message = "config.data.ignore_label=255: the mask of .* row 2 has one file a structure .4 such rows"
    with pytest.raises(InputError, match=message):
        source(root, ignore_label=255)


def test_a_column_names_the_structures_that_each_mask_shows(root):
    Image.fromarray(np.eye(8, 12, dtype=np.uint8)).save(root / "masks/1.png")
    table(drawn=["", "femur", "", ""]).to_csv(root / "metadata.csv", index=False)
    given = source(root, annotated_column="drawn")
    assert given.cases["annotated_structures"].tolist() == [(), ("femur",), (), ()]
    assert all(not isinstance(example, InputError) for example in everything(given))
    assert given.settings != source(root).settings
    pickle.dumps(given.read)


def test_a_mask_with_a_structure_that_its_row_does_not_name_is_refused(root):
    Image.fromarray(np.full((8, 12), 2, np.uint8)).save(root / "masks/2.png")
    table(drawn=["", "", "femur", ""]).to_csv(root / "metadata.csv", index=False)
    error = everything(source(root, annotated_column="drawn"))[2]
    assert isinstance(error, InputError)
    assert "row 4" in str(error) and "tibia" in str(error) and "drawn" in str(error)


def test_the_column_of_annotated_structures_is_checked_by_row(root):
    table(drawn=["", "fibula", "femur", "hip"]).to_csv(root / "metadata.csv", index=False)
    with pytest.raises(InputError, match=r"row 3.*'fibula'(.|\n)*row 5.*'hip'"):
        source(root, annotated_column="drawn")
    with pytest.raises(InputError, match="data.annotated_column is 'shown'"):
        source(root, annotated_column="shown")
