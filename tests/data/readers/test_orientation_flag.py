"""How a mask lies on its film, where both headers say so, one does, or none."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from configs import folder as folder_config
from kneefair_jax import label_errors
from kneefair_jax.audit import run
from kneefair_jax.audit.options import MaskOptions, Settings
from kneefair_jax.data import cohort_loader, folder, mask_files, readers
from kneefair_jax.data.mask_files import StructureFiles
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films, writers

LABEL = np.zeros((60, 48), np.uint8)
LABEL[5:20, 5:30], LABEL[30:58, 36:46] = 1, 2
FILM = np.where(LABEL > 0, 250, np.random.default_rng(0).integers(0, 200, LABEL.shape)).astype(np.uint8)
EXIF = {"flip-lr": 2, "rotate-180": 3, "flip-ud": 4, "transpose": 5, "rotate-270": 6, "anti-transpose": 7}
EXIF["rotate-90"] = 8
AFFINES = {"rotate-180": [0.2, 0.2, 1, 1], "flip-lr": [0.2, -0.2, 1, 1], "none": [-0.2, -0.2, 1, 1]}


def nifti(path, shown, turn="rotate-180", mm=1.0):
    """A file that is displayed as `shown`."""
    stored = readers.ORIENTATIONS[turn].undo(shown)
    image = nibabel.Nifti1Image(stored.T, np.diag(AFFINES[turn]) * [mm, mm, 1, 1])
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def png(path, shown, turn="none"):
    exif = Image.Exif()
    if turn != "none":
        exif[274] = EXIF[turn]
    Image.fromarray(readers.ORIENTATIONS[turn].undo(shown)).save(path, exif=exif)


def read(root, pairs, orientation=""):
    """The examples of (film, mask) pairs."""
    rows = [f"c{n},p{n},{film},{mask}" for n, (film, mask) in enumerate(pairs)]
    (root / "metadata.csv").write_text("\n".join(["case_id,patient_id,image,mask", *rows]) + "\n")
    config = {"root": str(root), "metadata": "metadata.csv", "structures": "femur,tibia", "attributes": ()}
    config |= {"bins": {}, "split_column": "", "on_read_error": "stop", "orientation": orientation}
    return list(folder.source(config, size=LABEL.shape, channels=1).read(range(len(pairs))))


def is_aligned(example):
    return bool((example.image[..., 0][example.label > 0] > 240).all())


@pytest.mark.parametrize("kind", ["nifti", "exif"])
@pytest.mark.parametrize("turned", ["film", "mask"])
def test_a_turned_film_or_mask_and_one_that_states_nothing_are_refused(tmp_path, kind, turned):
    write, suffix = (nifti, ".nii.gz") if kind == "nifti" else (png, ".png")
    paths = {"film": "film.png", "mask": "mask.png"} | {turned: f"{turned}{suffix}"}
    arrays = {"film": FILM, "mask": LABEL}
    other = "mask" if turned == "film" else "film"
    write(tmp_path / paths[turned], arrays[turned], "rotate-180")
    for flag, shown in (("none", arrays[other]), ("stored", arrays[other][::-1, ::-1])):
        png(tmp_path / paths[other], shown)
        (error,) = read(tmp_path, [(paths["film"], paths["mask"])])
        assert isinstance(error, InputError)
        for word in ("row 2", paths["mask"], "data.orientation=none", "data.orientation=stored"):
            assert word in str(error)
        (example,) = read(tmp_path, [(paths["film"], paths["mask"])], flag)
        assert is_aligned(example)


@pytest.mark.parametrize("turn", EXIF)
def test_a_film_and_a_mask_that_exif_turns_alike_lie_on_each_other(tmp_path, turn):
    png(tmp_path / "film.png", FILM, turn)
    png(tmp_path / "mask.png", LABEL, turn)
    nifti(tmp_path / "mask.nii.gz", LABEL)
    for example in read(tmp_path, [("film.png", "mask.png"), ("film.png", "mask.nii.gz")]):
        assert is_aligned(example)
    assert readers.read_radiograph(tmp_path / "film.png").orientation == readers.ORIENTATIONS[turn]


@pytest.mark.parametrize("turn", EXIF)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_nifti_mask_of_a_film_that_exif_turns_lies_on_its_stored_pixels(tmp_path, turn, suffix):
    stored = readers.ORIENTATIONS[turn].undo(FILM)
    Image.fromarray(stored).save(
        tmp_path / f"f.{suffix}",
        **({"tiffinfo": {274: EXIF[turn]}} if suffix == "tif" else {"exif": exif(turn)}),
    )
    film = films.read(tmp_path / f"f.{suffix}")
    np.testing.assert_array_equal(film.image[..., 0], FILM)
    writers.nifti(tmp_path / "m.nii.gz", LABEL, film, ("femur", "tibia"))
    mask = SimpleITK.ReadImage(str(tmp_path / "m.nii.gz"))
    on_film = SimpleITK.GetArrayFromImage(mask).reshape(stored.shape)
    np.testing.assert_array_equal(on_film, readers.ORIENTATIONS[turn].undo(LABEL))
    np.testing.assert_array_equal(readers.read_mask(tmp_path / "m.nii.gz"), LABEL)
    # The first displayed pixel is at 0 and the axes run as in the displayed space.
    point = mask.TransformContinuousIndexToPhysicalPoint
    corners = [point((x, y, 0)) for x in (0, mask.GetSize()[0] - 1) for y in (0, mask.GetSize()[1] - 1)]
    np.testing.assert_allclose(np.min(corners, axis=0)[:2], 0, atol=1e-5)
    np.testing.assert_allclose(
        np.max(corners, axis=0)[:2], [LABEL.shape[1] - 1, LABEL.shape[0] - 1], atol=1e-4
    )


def exif(turn):
    tags = Image.Exif()
    tags[274] = EXIF[turn]
    return tags


def test_the_flag_leaves_masks_alone_that_headers_place(tmp_path):
    nifti(tmp_path / "f.nii.gz", FILM)
    nifti(tmp_path / "m.nii.gz", LABEL, "flip-lr")
    png(tmp_path / "f.png", FILM)
    png(tmp_path / "m.png", LABEL)
    png(tmp_path / "stored.png", LABEL[::-1, ::-1])
    pairs = [("f.nii.gz", "stored.png"), ("f.nii.gz", "m.nii.gz"), ("f.png", "m.png")]
    assert all(map(is_aligned, read(tmp_path, pairs, "stored")))
    assert all(map(is_aligned, read(tmp_path, pairs[:2], "rotate-180")))
    (example,) = read(tmp_path, [("f.png", "stored.png")], "rotate-180")
    assert is_aligned(example)


def test_orientations_compose_and_invert():
    array = np.arange(6).reshape(2, 3)
    for one in readers.ORIENTATIONS.values():
        np.testing.assert_array_equal(one.inverse().apply(one.apply(array)), array)
        for other in readers.ORIENTATIONS.values():
            np.testing.assert_array_equal(one.compose(other).apply(array), other.apply(one.apply(array)))


def audited(root, **options):
    (root / "table").mkdir(exist_ok=True)
    rows = [f"c{n},p{n},{'fm'[n % 2]}" for n in range(6)]
    (root / "table" / "m.csv").write_text("\n".join(["case_id,patient_id,sex", *rows]) + "\n")
    return run.masks(
        root / "truth",
        root / "pred",
        root / "table" / "m.csv",
        ["sex"],
        MaskOptions(**options),
        Settings(draws=200),
    )


def masks_of(root, truth, pred, film=None):
    """Writers of the files of six cases, by folder."""
    for name, write in {"truth": truth, "pred": pred, "films": film}.items():
        if write is not None:
            (root / name).mkdir()
            for n in range(6):
                array = FILM if name == "films" else np.roll(LABEL, name == "pred", 0)
                write(root / name / f"c{n}{'.nii.gz' if write is nifti else '.png'}", array)


@pytest.mark.parametrize(("truth", "pred"), [(nifti, png), (png, nifti)])
def test_an_audit_names_the_cases_whose_headers_leave_the_orientation_open(tmp_path, truth, pred):
    masks_of(tmp_path, truth, pred)
    audit = audited(tmp_path)
    (note,) = [note for note in audit.notes if "states an orientation" in note]
    assert "6 " in note and "c0" in note and "--orientation stored" in note
    assert not any(
        "states an orientation" in note for note in audited(tmp_path, orientation="rotate-180").notes
    )


def test_an_audit_follows_headers_whatever_the_flag(tmp_path):
    masks_of(tmp_path, nifti, nifti)
    scores = [
        audited(tmp_path, orientation=flag).report["scores"]["dice"]["overall"]["mean"]
        for flag in ("none", "stored", "rotate-180")
    ]
    assert scores[0] > 0.9 and scores == scores[:1] * 3


def test_stored_lays_a_prediction_on_the_stored_pixels_of_its_truth(tmp_path):
    masks_of(tmp_path, nifti, lambda path, array: png(path, array[::-1, ::-1]))
    assert audited(tmp_path, orientation="stored").report["scores"]["dice"]["overall"]["mean"] > 0.9


def test_an_audit_names_films_whose_headers_leave_the_orientation_open(tmp_path):
    masks_of(tmp_path, png, png, nifti)
    audit = audited(tmp_path, images=tmp_path / "films")
    (note,) = [note for note in audit.notes if "states an orientation" in note]
    assert "film" in note and "c" in note


def test_a_comparison_with_a_network_names_all_such_films(tmp_path, monkeypatch):
    def comparison(structures, against):
        del structures, against
        return lambda pictures, labels: [label_errors.Pair(one, one.copy()) for one in labels]

    monkeypatch.setattr(label_errors, "comparison", comparison)
    masks_of(tmp_path, png, png, nifti)
    audit = audited(tmp_path, images=tmp_path / "films", label_error_checkpoint="auto")
    (note,) = [note for note in audit.notes if "states an orientation" in note]
    assert "6 of the films" in note and "c0" in note


def test_no_flag_is_advised_against_headers_that_state_a_wrong_orientation(tmp_path):
    masks_of(tmp_path, nifti, lambda path, array: nifti(path.with_suffix(".nii.gz"), array[::-1, ::-1]))
    (warning,) = [note for note in audited(tmp_path).notes if "another orientation" in note]
    assert "c0: fits after rotate-180" in warning and "--orientation" not in warning


def test_files_by_structure_are_of_one_layout(tmp_path):
    values = {"femur": (1,), "tibia": (2,)}
    femur, tibia = (LABEL == 1).astype(np.uint8), (LABEL == 2).astype(np.uint8)
    nifti(tmp_path / "femur.nii.gz", femur)
    nifti(tmp_path / "flip.nii.gz", tibia, "flip-lr")
    nifti(tmp_path / "large.nii.gz", tibia, mm=2.0)
    png(tmp_path / "tibia.png", tibia)
    nifti(tmp_path / "lp.nii.gz", femur, "none")

    def joined(first, second):
        return mask_files.read(
            StructureFiles({"femur": tmp_path / first, "tibia": tmp_path / second}), values
        )

    mask = joined("femur.nii.gz", "flip.nii.gz")
    np.testing.assert_array_equal(mask.values, LABEL)
    np.testing.assert_allclose(mask.spacing, 0.2, rtol=1e-5)
    mask = joined("lp.nii.gz", "tibia.png")  # the header states the order in which pixels are stored
    np.testing.assert_array_equal(mask.values, LABEL)
    assert mask.orientation == readers.NONE
    with pytest.raises(InputError, match=r"tibia\.png.*femur\.nii\.gz.*orientation"):
        joined("femur.nii.gz", "tibia.png")
    with pytest.raises(InputError, match=r"large\.nii\.gz.*0\.4.*femur\.nii\.gz.*0\.2"):
        joined("femur.nii.gz", "large.nii.gz")


def test_the_message_names_the_flag_of_the_external_cohort(tmp_path):
    external = tmp_path / "external"
    for root in (tmp_path / "main", external):
        root.mkdir()
        png(root / "film.png", FILM)
        (nifti if root == external else png)(root / f"mask{'.nii.gz' if root == external else '.png'}", LABEL)
    rows = [f"c{n},p{n},film.png,mask.png,{split}" for n, split in enumerate(("train", "validation", "test"))]
    columns = "case_id,patient_id,image,mask"
    (tmp_path / "main/metadata.csv").write_text("\n".join([f"{columns},split", *rows]) + "\n")
    (external / "metadata.csv").write_text(f"{columns}\ne0,q0,film.png,mask.nii.gz\n")
    data = folder_config.get_config().data
    data.update({"root": str(tmp_path / "main"), "structures": "femur,tibia", "attributes": ()})
    data.update({"size": LABEL.shape, "split_column": "split", "external": str(external)})
    main = cohort_loader.load(data, seed=0)
    (error,) = cohort_loader.load_external(data, main).source.read([0])
    assert isinstance(error, InputError) and "row 2" in str(error)
    assert "--config.data.external_orientation=stored" in str(error) and "data.orientation" not in str(error)
    data.external_orientation = "upside"
    with pytest.raises(InputError, match=r"data\.external_orientation='upside'"):
        cohort_loader.load_external(data, main)
    data.external_orientation = "none"
    (example,) = cohort_loader.load_external(data, main).source.read([0])
    assert is_aligned(example)
