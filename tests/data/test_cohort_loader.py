import numpy as np
import pandas as pd
import pytest
from PIL import Image

from configs import folder as folder_config
from configs import phantom_to_real as phantom_config
from kneefair_jax import groups
from kneefair_jax.data import cohort_loader, store
from kneefair_jax.data import folder as folder_source
from kneefair_jax.data.source import Source, public_reasons
from kneefair_jax.errors import InputError
from kneefair_jax.runs import experiment
from tests.films import folder


def data(root):
    made = folder_config.get_config().data
    made.update({"root": str(root), "size": (16, 16)})
    return made


def test_cases_left_out_are_in_no_split_and_their_levels_are_gone(tmp_path):
    root = folder(tmp_path)
    whole = cohort_loader.load(data(root), 0)
    young = whole.cases.loc[whole.cases["age"] == "<=50", "case_id"]
    cohort = cohort_loader._split(whole.source, 1, data(root), 0, without=set(young))
    assert len(cohort.cases) == 24 - len(young) and not set(young) & set(cohort.cases["case_id"])
    assert list(cohort.cases.index) == list(range(len(cohort.cases)))
    assert "<=50" not in cohort.cases["age"].cat.categories
    shares = [len(cohort.rows(name)) for name in ("train", "validation", "test")]
    assert sum(shares) == len(cohort.cases) and np.argmax(shares) == 0
    assert len(cohort.source.cases) == 24  # the store's rows are counted by these


def test_unused_files_are_listed_beside_the_cases_left_out(tmp_path, monkeypatch):
    """The flow of patients counts `source.excluded`; `excluded.csv` lists `Prepared.excluded`."""
    root = folder(tmp_path / "films")
    case, file = ("film 1", "no pixel spacing"), ("7 masks", "fit no film in use")
    real = folder_source.source
    monkeypatch.setattr(
        folder_source,
        "source",
        lambda *args, **of: real(*args, **of)._replace(excluded=(case,), unused=(file,)),
    )
    cohort = cohort_loader.load(data(root), 0)
    prepared, _ = cohort_loader.prepare(data(root), 0, cohort, None, tmp_path / "store", store.Options())
    assert prepared.excluded == (case, file)
    assert public_reasons(prepared.cohort.source.excluded) == [("no pixel spacing", 1)]
    experiment.report_excluded(tmp_path, prepared, None)
    lines = (tmp_path / "excluded.csv").read_text().splitlines()
    assert lines == ["what,why", ",".join(case), ",".join(file)]


def test_an_empty_cohort_says_what_became_of_it(tmp_path, monkeypatch):
    root = folder(tmp_path)

    def nothing(*args, **kwargs):
        given = real(*args, **kwargs)
        return Source(
            given.cases.iloc[:0], ("a",), {}, given.read, excluded=(("film 1", "no pixel spacing"),)
        )

    real = folder_source.source
    monkeypatch.setattr(folder_source, "source", nothing)
    with pytest.raises(InputError, match="all 1 cases are excluded:\nfilm 1: no pixel spacing"):
        cohort_loader.load(data(root), 0)


def test_an_external_cohort_may_have_other_labels_and_fewer_columns(tmp_path):
    """A network of phantom knees, scored on films whose masks are the whole femur and the tibia."""
    root = folder(tmp_path / "films")
    table = pd.read_csv(root / "metadata.csv")
    table.drop(columns="age").to_csv(root / "metadata.csv", index=False)
    made = phantom_config.get_config().data
    made.update({"size": (16, 16), "attributes": ("sex", "side"), "external": str(root)})
    made.phantom.patients = 20
    made.fractions = (0.6, 0.2, 0.2)
    main = cohort_loader.load(made, 0)
    made.external_structures = "whole femur,tibia"
    external = cohort_loader.load_external(made, main)
    assert external.structures == ("whole femur", "tibia") and external.grid == (16, 16, 1)
    assert set(external.cases["sex"]) == {"f", "m"}
    assert set(external.cases["side"]) == {groups.MISSING}
    table["patient_id"] = main.cases["patient_id"].iloc[0]  # a phantom is nobody
    table.drop(columns="age").to_csv(root / "metadata.csv", index=False)
    assert len(cohort_loader.load_external(made, main).cases) == 24
    made.external_structures = "whole femur,hip"
    with pytest.raises(InputError, match="'hip' is none of"):
        cohort_loader.load_external(made, main)
    # Which bone is in front is known where both are: to a network with overlap classes.
    made.external_structures, made.external_in_front = "fibula,tibia", "fibula"
    with pytest.raises(InputError, match="'fibula' in front needs"):
        cohort_loader.load_external(made, main)
    made.phantom.structures = "knee_overlaps"
    assert cohort_loader.load_external(made, cohort_loader.load(made, 0)).structures == ("fibula", "tibia")


def test_an_attribute_of_numbers_is_binned_or_refused():
    """A phantom's table holds what was planted, as numbers."""
    made = phantom_config.get_config().data
    made.update({"size": (16, 16), "attributes": ("sex", "fov_mm"), "fractions": (0.6, 0.2, 0.2)})
    made.phantom.patients = 20
    for name in ("fov_mm", "randomisation"):
        made.attributes = ("sex", name)
        with pytest.raises(InputError, match=f"'{name}' holds 20 different numbers; set data.bins"):
            cohort_loader.load(made, 0)
    made.attributes = ("sex", "fov_mm")
    made.bins.fov_mm = (120.0, 200.0)
    cohort = cohort_loader.load(made, 0)
    width = cohort.source.cases["fov_mm"]
    assert cohort.cases["fov_mm"].cat.categories.tolist() == ["<=120", "120-200", ">200"]
    assert ((cohort.cases["fov_mm"] == "<=120") == (width <= 120)).all()
    assert ((cohort.cases["fov_mm"] == ">200") == (width > 200)).all()


@pytest.mark.parametrize(("name", "levels"), [("sex", ("f",)), ("age", ("51-64", ">=65"))])
def test_only_the_levels_asked_for_are_kept_and_the_others_listed(tmp_path, name, levels):
    root = folder(tmp_path)
    whole = cohort_loader.load(data(root), 0)
    made = data(root)
    made.levels.update({name: levels})
    cohort = cohort_loader.load(made, 0)
    kept = whole.cases[name].isin(levels).to_numpy()
    assert cohort.cases["case_id"].tolist() == whole.cases["case_id"][kept].tolist()
    assert tuple(cohort.cases[name].cat.categories) == levels
    assert {case for case, _ in cohort.source.excluded} == set(whole.cases["case_id"][~kept])
    assert cohort.source.settings != whole.source.settings  # a store of its own
    rows = np.flatnonzero(kept)[[3, 0]]
    for mine, theirs in zip(cohort.source.read([3, 0]), whole.source.read(rows), strict=True):
        np.testing.assert_array_equal(mine.image, theirs.image)


@pytest.mark.parametrize(
    ("levels", "message"),
    [({"sex": ("f", "x")}, "no case has sex=x; .*'f'"), ({"hip": ("a",)}, "the cases have no 'hip'")],
)
def test_levels_that_there_are_not(tmp_path, levels, message):
    made = data(folder(tmp_path))
    with made.unlocked():
        made.levels.update(levels)
    with pytest.raises(InputError, match=message):
        cohort_loader.load(made, 0)


def test_an_external_cohort_has_the_values_of_the_main_one_and_void_of_its_own(tmp_path):
    roots = [folder(tmp_path / name, patient=name) for name in ("main", "external")]
    for root in roots:
        for path in (root / "masks").iterdir():
            Image.fromarray(np.array([0, 2, 1], np.uint8)[np.array(Image.open(path))]).save(path)
    made = data(roots[0])
    made.update({"structures": "disc=2,square=1", "external": str(roots[1]), "external_ignore_label": 255})
    main = cohort_loader.load(made, 0)
    external = cohort_loader.load_external(made, main)
    assert external.structures == ("disc", "square") and external.source.void and not main.source.void
    for cohort in (main, external):
        label = next(cohort.source.read([0])).label
        assert label[4, 4] == 1 and label[10, 10] == 2
    made.external_structures = "disc,square"
    assert next(cohort_loader.load_external(made, main).source.read([0])).label[4, 4] == 2


@pytest.mark.parametrize(
    ("masks", "note"), [(2, "24 pixels in 2 of 24 masks have the void label 255"), (0, "no mask has")]
)
def test_void_pixels_are_counted_when_the_cases_are_prepared(tmp_path, masks, note):
    root = folder(tmp_path / "films")
    for k in range(masks):
        with Image.open(root / f"masks/{k}.png") as image:
            mask = np.array(image)
        mask[0, :12] = 255
        Image.fromarray(mask).save(root / f"masks/{k}.png")
    made = data(root)
    made.update({"structures": "disc,square", "ignore_label": 255})
    cohort = cohort_loader.load(made, 0)
    main, _ = cohort_loader.prepare(made, 0, cohort, None, tmp_path / "store", store.Options())
    (text,) = [text for text in main.cohort.notes() if "void" in text]
    assert text.startswith(note)


def test_an_empty_split_names_the_cases_that_cannot_be_read(tmp_path):
    root = folder(tmp_path / "films")
    table = pd.read_csv(root / "metadata.csv")
    table.assign(split=["test"] * 2 + ["validation"] * 2 + ["train"] * 20).to_csv(
        root / "metadata.csv", index=False
    )
    for k in range(2):
        (root / f"masks/{k}.png").write_bytes(b"torn")
    made = data(root)
    made.split_column = "split"
    cohort = cohort_loader.load(made, 0)
    with pytest.raises(
        InputError, match=r"no case is in the split 'test'.*\n.* 2 cases .*\n.*0\.png.*\n.*1\.png"
    ):
        cohort_loader.prepare(made, 0, cohort, None, tmp_path / "store", store.Options(on_read_error="skip"))


def test_the_kind_of_a_mask_stays_with_its_case(tmp_path):
    """Without an unreadable case and with some levels alone, each row has the kind that its case states."""
    root = folder(tmp_path / "films")
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    structures = cohort_loader.load(data(root), 0).structures
    shows_all = np.arange(len(table)) % 3 > 0
    masks = [root / name for name in table["mask"]]
    for path in (mask for mask, whole in zip(masks, shows_all, strict=True) if not whole):
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label == 1, label, 0).astype(np.uint8)).save(path)
    table["drawn"] = np.where(shows_all, "", structures[0])
    table.to_csv(root / "metadata.csv", index=False)
    (root / table["image"][4]).write_bytes(b"no image")
    settings = data(root)
    settings.update(
        {"annotated_column": "drawn", "on_read_error": "skip", "structures": ",".join(structures)}
    )
    cohort = cohort_loader.load(settings, 0)
    prepared, _ = cohort_loader.prepare(
        settings, 0, cohort, None, tmp_path / "store", store.Options(on_read_error="skip")
    )
    cohort, cases = prepared.cohort, prepared.cases
    assert len(cases) == len(table) - 1
    drawn = dict(zip(table["case_id"], table["drawn"], strict=True))
    for row, case_id in enumerate(cohort.cases["case_id"]):
        kind = cohort.annotations.kinds[int(cases[row]["annotation"])]
        assert ",".join(kind.names) == drawn[case_id]
        assert kind.names == () or set(np.unique(cases[row]["label"])) <= {0, 1}
    with pytest.raises(ValueError, match="annotation: 2 entries"):
        cases.with_columns({"annotation": np.zeros(2)})
