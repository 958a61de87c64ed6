import os

import numpy as np
import pydicom
import pytest
from PIL import Image

from kneefair_jax import anatomy
from kneefair_jax.audit import files
from kneefair_jax.data import dicom_seg, mask_files, readers
from kneefair_jax.data.mask_files import StructureFiles
from kneefair_jax.errors import InputError
from kneefair_jax.predict import dicomseg, films
from tests.hostile import masks

VALUES = {"femur": (1,), "tibia": (2,), "fibula": (3,), "patella": (4,)}


def mask_by_hand():
    mask = np.zeros((masks.SIZE, masks.SIZE - 3), np.uint8)  # 3904 pixels: frames do not end at a byte's end
    mask[3:20, 5:30], mask[25:50, 5:30], mask[30:60, 40:47], mask[8:15, 10:20] = 1, 2, 3, 4
    return mask


@pytest.fixture
def film(tmp_path):
    return masks.film(tmp_path / "film.dcm", mask_by_hand() * 40)


def save(dataset, path):
    dataset.save_as(path)
    return path


def edited(path, edit):
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path


class TestDicomSeg:
    def test_what_this_package_writes(self, tmp_path, film):
        import highdicom

        mask = mask_by_hand()
        path = save(dicomseg.make(film, mask, masks.NAMES), tmp_path / "seg.dcm")
        np.testing.assert_array_equal(mask_files.read(path, VALUES).values, mask)
        # highdicom reads the same.
        uid = pydicom.dcmread(film).SOPInstanceUID
        seg = highdicom.seg.segread(path)
        frames = seg.get_pixels_by_source_instance([uid], combine_segments=True)
        np.testing.assert_array_equal(frames[0], mask)
        # An archive's name has no ending.
        np.testing.assert_array_equal(mask_files.read(path.rename(tmp_path / "1.2.3"), VALUES).values, mask)

    def test_labels_are_of_segments_names(self, tmp_path, film):
        mask = mask_by_hand()
        path = save(masks.segmentation(film, mask, (4, 2, 1, 3)), tmp_path / "seg.dcm")
        np.testing.assert_array_equal(mask_files.read(path, VALUES).values, mask)
        union = {"whole Femur": (7, 8), "TIBIA": (2,), "fibula": (3,)}
        expected = np.where(np.isin(mask, (1, 4)), 7, mask)
        np.testing.assert_array_equal(mask_files.read(path, union).values, expected)
        assert mask_files.segment_names(path) == ["patella", "tibia", "femur", "fibula"]
        with pytest.raises(InputError, match="seg.dcm.*'patella'.*data.structures"):
            mask_files.read(path, {"femur": (1,), "tibia": (2,), "fibula": (3,)})

    def test_whole_bones_that_overlap(self, tmp_path, film):
        mask = mask_by_hand()
        femur, patella = mask == 1, np.zeros_like(mask, bool)
        patella[8:15, 25:35] = True  # half over the femur, half beside it
        femur[8:15, 10:20] = True
        bones = np.stack([femur, patella], -1)
        path = save(dicomseg.make(film, bones, ("whole femur", "whole patella")), tmp_path / "seg.dcm")
        values = {"femur": (1,), "patella": (4,), "femur and patella": (5,)}
        expected = np.select([femur & patella, femur, patella], [5, 1, 4])
        np.testing.assert_array_equal(mask_files.read(path, values).values, expected)
        # `femur` of the scheme `knee` is what the patella does not cover.
        in_front = mask_files.read(path, {"femur": (1,), "whole patella": (4,)}).values
        np.testing.assert_array_equal(in_front, np.select([patella, femur], [4, 1]))
        # The patella is no part of the whole femur, and without its overlap class no patella.
        for labels in (
            {"whole femur": (1,)},
            {"whole femur": (1,), "tibia": (2,)},
            {"whole femur": (1,), "patella": (4,)},
            {"whole femur": (1,), "whole patella": (4,)},
            {"femur": (1,), "patella": (4,)},
        ):
            with pytest.raises(InputError, match=r"seg\.dcm"):
                mask_files.read(path, labels)

    def test_one_frame_and_absent_segments(self, tmp_path, film):
        tibia = np.where(mask_by_hand() == 2, 2, 0).astype(np.uint8)
        for described in ((2,), (1, 2)):
            path = save(masks.segmentation(film, tibia, described), tmp_path / "seg.dcm")
            assert mask_files.segment_names(path) == [masks.NAMES[label - 1] for label in described]
            np.testing.assert_array_equal(mask_files.read(path, VALUES).values, tibia)
            # What has no pixels needs no name.
            np.testing.assert_array_equal(mask_files.read(path, {"tibia": (2,)}).values, tibia)

    def test_label_maps(self, tmp_path, film):
        mask = mask_by_hand()
        path = save(masks.segmentation(film, mask, (2, 1, 3, 4), "LABELMAP"), tmp_path / "seg.dcm")
        np.testing.assert_array_equal(mask_files.read(path, VALUES).values, mask)

    def test_what_is_no_mask_of_one_picture_is_refused(self, tmp_path, film):
        mask, path = mask_by_hand(), tmp_path / "seg.dcm"
        save(masks.segmentation(film, (mask > 0).astype(np.uint8), (1,), "FRACTIONAL"), path)
        with pytest.raises(InputError, match="seg.dcm.*FRACTIONAL.*BINARY"):
            mask_files.read(path, VALUES)

        def frames(dataset, of, pixels):
            for group, number in zip(dataset.PerFrameFunctionalGroupsSequence, of, strict=True):
                group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
            dataset.PixelData = np.packbits(pixels.ravel() > 0, bitorder="little").tobytes()

        two = np.stack([mask == 1, mask == 2])
        save(masks.segmentation(film, np.where(mask < 3, mask, 0).astype(np.uint8), (1, 2)), path)
        np.testing.assert_array_equal(dicom_seg.read(path).segment, np.where(mask < 3, mask, 0))
        edited(path, lambda dataset: frames(dataset, (1, 1), two))
        with pytest.raises(InputError, match="seg.dcm.*several images"):
            mask_files.read(path, VALUES)
        edited(path, lambda dataset: frames(dataset, (1, 2), np.stack([mask == 1, mask <= 2])))
        with pytest.raises(InputError, match="seg.dcm.*'femur' and 'tibia' overlap"):
            mask_files.read(path, VALUES)
        edited(path, lambda dataset: frames(dataset, (1, 3), two))
        with pytest.raises(InputError, match="seg.dcm.*number 3"):
            mask_files.read(path, VALUES)
        edited(path, lambda dataset: delattr(dataset, "PerFrameFunctionalGroupsSequence"))
        with pytest.raises(InputError, match="seg.dcm.*export it again"):
            mask_files.read(path, VALUES)

    def test_a_segmentation_without_named_structures_is_refused(self, tmp_path, film):
        path = save(dicomseg.make(film, mask_by_hand(), masks.NAMES), tmp_path / "seg.dcm")
        with pytest.raises(InputError, match="seg.dcm.*--labels.*data.structures"):
            mask_files.read(path, {})

    def test_readers_of_images_refuse_it(self, tmp_path, film):
        one = np.where(mask_by_hand() == 2, 2, 0).astype(np.uint8)
        path = save(dicomseg.make(film, one, masks.NAMES), tmp_path / "seg.dcm")
        for read in (readers.read_image, readers.read_mask):
            with pytest.raises(InputError, match="seg.dcm.*segmentation"):
                read(path)

    def test_a_film_is_no_segmentation(self, film, tmp_path):
        (tmp_path / "b.dcm").write_bytes(b"none")
        assert not mask_files.is_dicom_seg(film) and not mask_files.is_dicom_seg(tmp_path / "b.dcm")
        assert not mask_files.is_dicom_seg(tmp_path / "absent.dcm")


class TestStructureFiles:
    @staticmethod
    def files(tmp_path, **arrays):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        return StructureFiles({name: tmp_path / f"{name}.npy" for name in arrays})

    def test_files_are_joined(self, tmp_path):
        femur, tibia = np.array([[255, 0, 0]]), np.array([[False, True, False]])
        case = self.files(tmp_path, femur=femur, tibia=tibia)
        mask = mask_files.read(case, VALUES | {"tibia": (9, 2)})
        np.testing.assert_array_equal(mask.values, [[1, 9, 0]])
        assert np.isnan(mask.spacing).all()
        assert str(case) == f"{tmp_path / 'femur.npy'} and 1 more"

    @pytest.mark.parametrize(
        ("tibia", "message"),
        [
            ([[1, 1, 0]], "tibia.npy: overlaps .*femur.npy"),
            ([[0, 1]], "tibia.npy.*1 x 2.*femur.npy"),
            ([[0, 1, 2]], "tibia.npy.*'tibia'"),
        ],
    )
    def test_what_cannot_be_joined(self, tmp_path, tibia, message):
        case = self.files(tmp_path, femur=np.array([[1, 0, 0]]), tibia=np.array(tibia))
        with pytest.raises(InputError, match=message):
            mask_files.read(case, VALUES)


def test_one_file_for_two_structures_is_refused(tmp_path):
    path = tmp_path / "x_a_b.png"
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match="'a b' and of 'a_b'"):
        mask_files.read(mask_files.StructureFiles({"a b": path, "a_b": path}), {"a b": (1,), "a_b": (2,)})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two films, a folder that nobody may list, a loop, a pipe, and links to a missing and to a linked file."""
    films = tmp_path / "films"
    for name in ("a.png", "sub/b.png", "shut/c.png"):
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(films / name)
    (films / "loop").symlink_to(".")
    (films / "d.png").symlink_to("absent")
    (films / "e.png").symlink_to("e.png")
    os.mkfifo(films / "f.png")
    os.mkfifo(films / "pipe")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return films


def test_every_path_once_and_an_error_for_a_folder_that_is_shut(folder):
    paths, errors = mask_files.list_files(folder)
    names = ["a.png", "d.png", "e.png", "f.png", "loop", "pipe", "sub/b.png"]
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        name for name in names if name != "loop"
    ]
    (error,) = errors
    assert "shut" in str(error) and "permission denied" in str(error)


def test_predict_names_what_it_cannot_read(folder, tmp_path):
    items = list(films.find([str(folder)], tmp_path / "out"))
    (error,) = [item for item in items if isinstance(item, InputError)]
    assert "shut" in str(error)
    # Links and pipes that are named as films are left to the reader, which refuses them.
    assert [item.name for item in items if isinstance(item, films.Input)] == ["a", "d", "e", "f", "sub/b"]


def test_names_that_no_file_can_have_are_left_to_the_reader(tmp_path):
    given = [str(tmp_path / ("a" * 300 + ".png")), "a/" * 3000, "a\0.png"]
    assert [str(item.path) for item in films.find(given, tmp_path / "out")] == [
        text.rstrip("/") for text in given
    ]


def test_an_audit_refuses_a_folder_that_is_shut(folder):
    with pytest.raises(InputError, match="shut"):
        files.find(folder, ["a", "b"], "--truth")


def test_an_audit_gives_links_and_pipes_to_the_reader(folder, monkeypatch):
    monkeypatch.undo()
    result = files.find(folder, ["a", "b", "c", "d", "f"], "--truth")
    assert sorted(result.by_case) == ["a", "b", "c", "d", "f"]
    assert mask_files.cases_linked_outside(folder, {"e": folder / "e.png", "d": folder / "d.png"}) == []


def test_paths_of_a_table_that_no_file_can_have_are_absent(folder, tmp_path):
    names = {"a": "a.png", "b": "a" * 300 + ".png", "f": "f.png"}
    result = files.find_by_paths(folder, names, [2, 3, 4], "--truth", tmp_path / "metadata.csv")
    assert sorted(result) == ["a", "f"]


NAMES = ("right femur", "tibia")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    "names",
    [
        ("a_right_femur.npy", "a_tibia.npy"),
        ("a-right-femur.npy", "a-tibia.npy"),
        ("a/right femur.npy", "a/tibia.npy"),
    ],
)
def test_files_are_matched_to_structures(tmp_path, names):
    touch(tmp_path, *names, "b_tibia.npy")
    found = mask_files.find_mask(tmp_path / "a", NAMES)
    assert found == StructureFiles({name: tmp_path / file for name, file in zip(NAMES, names, strict=True)})
    assert mask_files.mask_paths(found) == tuple(tmp_path / name for name in names)


def test_a_file_is_itself_and_so_is_what_is_not_there(tmp_path):
    touch(tmp_path, "a.npy", "a_tibia.npy")
    for name in ("a.npy", "b.npy", "c"):
        assert mask_files.find_mask(tmp_path / name, NAMES) == tmp_path / name
        assert mask_files.mask_paths(tmp_path / name) == (tmp_path / name,)


def test_files_of_some_structures_alone_and_two_of_one_are_refused(tmp_path):
    touch(tmp_path, "a_tibia.npy")
    with pytest.raises(InputError, match=r"a_tibia.npy.*'right femur'; add"):
        mask_files.find_mask(tmp_path / "a", NAMES)
    touch(tmp_path, "a/tibia.npy")
    with pytest.raises(InputError, match=r"2 files of 'tibia'.*leave one"):
        mask_files.find_mask(tmp_path / "a", NAMES)


def test_files_of_whole_bones_take_the_place_of_overlap_classes(tmp_path):
    classes = anatomy.SCHEMES["knee_overlaps"]
    bones = anatomy.whole_bones(classes)
    touch(tmp_path, *(f"a_{name.replace(' ', '_')}.npy" for name in bones))
    touch(tmp_path, *(f"b_{name.replace(' ', '_')}.npy" for name in (*classes, bones[0])))
    assert tuple(mask_files.find_mask(tmp_path / "a", classes).files) == bones
    assert tuple(mask_files.find_mask(tmp_path / "b", classes).files) == classes
