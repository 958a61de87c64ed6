import numpy as np
import pydicom
import pytest
from PIL import Image

from kneefair_jax.data import dicom_seg, mask_files, readers
from kneefair_jax.data.mask_files import StructureFiles
from kneefair_jax.errors import InputError
from kneefair_jax.predict import dicomseg
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

    def test_nobody_named_the_structures(self, tmp_path, film):
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
