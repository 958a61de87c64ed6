import pickle
import subprocess
import sys
from functools import partial

import numpy as np

from kneefair_jax.data import source
from kneefair_jax.data.source import Example, files_sha256
from kneefair_jax.errors import InputError


def test_reasons_are_counted_and_all_is_listed(tmp_path):
    table = tmp_path / "excluded.csv"
    listed = [
        (f"c{i}", f"f/metadata.csv row {i}: f/{i}.png: unreadable file (at {i}); give another")
        for i in range(3)
    ]
    listed += [("film 9", "no pixel spacing"), ('a "b", c', "no pixel spacing")]
    source.write_excluded(listed, table)
    assert source.describe_excluded(listed, table).split("\n") == [
        "excluded: 5 (listed in excluded.csv)",
        "     3 x unreadable file",
        "     2 x no pixel spacing",
    ]
    lines = table.read_text().splitlines()
    assert lines[0] == "what,why" and len(lines) == 6
    assert lines[5] == '"a ""b"", c",no pixel spacing'
    source.write_excluded([], table)
    assert not table.exists()


def test_rare_reasons_are_summarized_by_their_number(tmp_path):
    listed = [(f"c{i}", f"reason {i}") for i in range(8)]
    assert source.describe_excluded(listed, tmp_path / "l.csv").split("\n")[-1] == "       and 3 more reasons"


def test_a_part_of_a_source_is_read_without_jax_and_tfds(tmp_path):
    read = partial(source.read_subset, list, np.array([5, 3, 8]))
    assert list(read([2, 0])) == [8, 5]
    (tmp_path / "read.pickle").write_bytes(pickle.dumps(read))
    code = (
        "import pickle, sys\n"
        f"read = pickle.load(open({str(tmp_path / 'read.pickle')!r}, 'rb'))\n"
        "assert list(read([1])) == [3]\n"
        "assert not {'jax', 'tensorflow_datasets', 'grain'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", code], check=True)


def test_identifiers_of_excluded_cases_stay_as_they_are(tmp_path):
    source.write_excluded([("/site/x/c05", "/home/jo/a.png: gone")], tmp_path / "excluded.csv")
    assert (tmp_path / "excluded.csv").read_text().splitlines()[1] == "/site/x/c05,a.png: gone"


def test_public_reasons_hold_no_paths_names_or_identifiers():
    excluded = [
        ("c1", "metadata.csv row 5: 3.png: unreadable file (truncated); export it again"),
        ("c2", "metadata.csv row 6: 4.png: unreadable file; export it again"),
        ("c3", "no mask for 'p0012' in data/masks"),
        ("c4", "patient 9000099 has no image"),
    ]
    assert source.public_reasons(excluded) == [
        ("unreadable file", 2),
        ("no mask for ... in ...", 1),
        ("patient ... has no image", 1),
    ]


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

    changes = dict(source.changed_cases(["a", "b", "c", "d"], range(4), files, recorded))
    assert set(changes) == {"b", "c"}
    assert "masks/1.png changed" in changes["b"] and "masks/2.png" in changes["c"]
    assert "Smith" not in str(changes)

    example = Example(np.zeros((2, 2, 1)), np.zeros((2, 2)), np.ones(2))
    read = source.read_unchanged(lambda rows: (example for _ in rows), files, recorded, "abcd", [0, 1, 2, 3])
    assert [isinstance(case, InputError) for case in read] == [False, True, True, False]
