import numpy as np
import pytest

from benchmarks import fuzz
from kneefair_jax.data import readers


@pytest.fixture(scope="module")
def targets():
    return {target.name: target for target in fuzz.targets()}


def test_the_files_are_valid_before_they_are_mutated(targets, tmp_path):
    for target in targets.values():
        for name, content in target.files.items():
            folder = tmp_path / target.name / name
            folder.mkdir(parents=True)
            for companion, other in target.companions.items():
                (folder / companion).write_bytes(other)
            (folder / name).write_bytes(content)
            target.read(folder / name)


@pytest.mark.parametrize("name", ["radiographs", "masks", "metadata", "scores"])
def test_mutated_files_are_read_or_refused(targets, name):
    fuzz.fuzz(targets[name], number=7, examples=40)


def test_another_error_than_a_refusal_is_a_failure(targets):
    def read(path):
        raise IndexError

    with pytest.raises(IndexError):
        fuzz.fuzz(targets["masks"]._replace(read=read), number=0, examples=5)


def test_a_reader_that_takes_too_long_is_a_failure(targets, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)

    def read(path):
        while True:
            pass

    with pytest.raises(BaseException) as error:
        fuzz.fuzz(targets["masks"]._replace(read=read), number=0, examples=2)
    assert fuzz.TimeoutInterrupt.__name__ in repr(error.value) or isinstance(
        error.value, fuzz.TimeoutInterrupt
    )


def test_compressed_content_is_mutated_below_the_compression(targets, tmp_path):
    content = targets["radiographs"].files["a.nii.gz"]
    changed = fuzz.mutated(content, ("byte", 0.999999, 7))
    (tmp_path / "a.nii.gz").write_bytes(content)
    (tmp_path / "b.nii.gz").write_bytes(changed)
    before, after = (readers.read_radiograph(tmp_path / f"{name}.nii.gz").pixels for name in "ab")
    assert np.count_nonzero(before != after) == 1
