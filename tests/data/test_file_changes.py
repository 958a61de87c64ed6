import numpy as np

from kneefair_jax.data import file_changes
from kneefair_jax.data.source import Example, files_sha256
from kneefair_jax.errors import InputError


def test_cases_whose_files_changed_or_vanished_are_named(tmp_path):
    folder = tmp_path / "Smith, Jo (x)" / "masks"
    folder.mkdir(parents=True)
    paths = [folder / f"{k}.png" for k in range(4)]
    for path in paths:
        path.write_text("pixels")
    recorded = [files_sha256([path]) for path in paths]
    recorded[3] = ""  # not recorded
    paths[1].write_text("other")
    paths[2].unlink()
    paths[3].unlink()

    def files(row):
        return (paths[row],)

    changes = dict(file_changes.of_cases(["a", "b", "c", "d"], range(4), files, recorded))
    assert set(changes) == {"b", "c"}
    assert "masks/1.png changed" in changes["b"] and "masks/2.png" in changes["c"]
    assert "Smith" not in str(changes)

    example = Example(np.zeros((2, 2, 1)), np.zeros((2, 2)), np.ones(2))
    read = file_changes.read_unchanged(
        lambda rows: (example for _ in rows), files, recorded, "abcd", [0, 1, 2, 3]
    )
    assert [isinstance(case, InputError) for case in read] == [False, True, True, False]
