"""Finished files are kept; a file, a network, an option or a result that has changed is segmented again."""

import contextlib
import csv
import importlib.metadata
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.errors import InputError
from kneefair_jax.predict import measuring, predictor, run, session
from kneefair_jax.predict.session import RECORD
from tests.predict.networks import write

FILMS = 5
SETTINGS = session.Settings(batch=2, overlays=False)  # which take most of the time


def save(path, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (24, 48), dtype=np.uint8)
    Image.fromarray(noise).save(path, compress_level=0)  # the same number of bytes for every seed


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    paths = [write(folder / f"{seed}.safetensors", seed=seed) for seed in (0, 1)]
    return [
        predictor.load(path, batch_size=2, flip=flip)
        for path, flip in zip((*paths, paths[0]), (0, 0, 1), strict=True)
    ]


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(FILMS):
        save(folder / f"{number}.png", number)
    return folder


@contextlib.contextmanager
def log_of_run():
    """The records that `run` logs in the block."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger(run.__name__)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield records
    logger.removeHandler(handler)


def segment(network, films, out, settings=SETTINGS):
    """Run and return the tally, the numbers of the films that were kept, and the messages of failed ones."""
    with log_of_run() as records:
        tally = run.run(network, [str(films)], out, settings)
    lines = [record.getMessage() for record in records]
    failed = [line for line in lines if line.startswith("failed: ")]
    segmented = {line.split()[1].rsplit("/", 1)[1].split(".")[0] for line in lines if line not in failed}
    not_kept = segmented | {
        path.stem for path in films.glob("*.png") if any(str(path) in line for line in failed)
    }
    return tally, sorted(int(path.stem) for path in films.glob("*.png") if path.stem not in not_kept), failed


def content(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def network(networks):
    return networks[0]


@pytest.fixture
def out(network, films, tmp_path):
    tally, kept, _ = segment(network, films, tmp_path / "out")
    assert (tally.segmentations, tally.earlier_segmentations, kept) == (FILMS, 0, [])
    return tmp_path / "out"


def test_a_second_run_keeps_everything(network, films, out, monkeypatch):
    before = content(out)
    first, *_ = segment(network, films, out.parent / "other")
    monkeypatch.setattr(
        predictor.Predictor, "segment", lambda self, images, group: [] if not images else 1 / 0
    )
    tally, kept, _ = segment(network, films, out)
    assert kept == list(range(FILMS)) and content(out) == before
    assert tally == first._replace(earlier_segmentations=FILMS)


@pytest.mark.parametrize("count", [5, 8])
def test_the_log_has_the_first_five_warnings(network, tmp_path, count):
    films = tmp_path / "films"
    films.mkdir()
    for number in range(count):
        save(films / f"{number}.png", number)
    with log_of_run() as records:
        tally = run.run(network, [str(films)], tmp_path / "out", SETTINGS)
    lines = [record.getMessage() for record in records]
    assert tally.warnings == count and sum("  warning: " in line for line in lines) == 5
    more = [line for line in lines if line.startswith(f"and {count - 5} more ")]
    assert len(lines) == count + len(more) and len(more) == (count > 5)
    assert all("areas.csv" in line for line in more)


def test_another_batch_size_keeps_everything(network, films, out):
    assert segment(network, films, out, SETTINGS._replace(batch=3))[1] == list(range(FILMS))


def test_a_changed_file_of_the_same_size_and_time_is_segmented_again(network, films, out):
    path = films / "2.png"
    before = path.stat()
    save(path, 99)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    assert segment(network, films, out)[1] == [0, 1, 4]  # its batch is segmented as a whole
    segment(network, films, out.parent / "fresh")
    assert content(out) == content(out.parent / "fresh")


def test_another_network_or_option_segments_all_files_again(networks, films, out):
    same, other, _ = networks
    assert len({one.digest() for one in networks}) == 3
    assert predictor.Predictor(same._ensemble, batch_size=3).digest() == same.digest()
    assert predictor.Predictor(same._ensemble, whole_femur=True).digest() != same.digest()
    for number, (network, settings) in enumerate(
        [
            (other, SETTINGS),
            (same, SETTINGS._replace(spacing=np.array([0.2, 0.2], np.float32))),
            (same, SETTINGS._replace(format="nifti")),
            (same, SETTINGS._replace(knees="both")),
            (same, SETTINGS._replace(measure=True)),
        ]
    ):
        folder = shutil.copytree(out, out.parent / f"copy_{number}")
        assert segment(network, films, folder, settings)[1] == []
        segment(network, films, out.parent / f"fresh_{number}", settings)
        assert content(folder) == content(out.parent / f"fresh_{number}")


def test_measurements_belong_to_the_result_of_a_file(network, films, out):
    settings = SETTINGS._replace(measure=True, overlays=True)
    segment(network, films, out, settings)
    assert segment(network, films, out, settings)[1] == list(range(FILMS))
    table = out / measuring.FILE
    before = table.read_text()
    table.write_text(before.replace("the femur", "a femur", 1))
    assert before != table.read_text()
    assert len(segment(network, films, out, settings)[1]) == FILMS - 2  # the batch of the damaged film
    assert table.read_text() == before
    save(films / "3.png", 77)
    segment(network, films, out)  # without measurements
    assert not table.exists()


def test_other_code_segments_all_files_again(network, films, out, monkeypatch):
    monkeypatch.setattr(session, "code_digest", lambda: "other")
    assert segment(network, films, out)[1] == []


def test_the_code_is_its_sources_and_the_versions_of_libraries(tmp_path, monkeypatch):
    def package(name, **sources):
        for module, text in sources.items():
            path = tmp_path / name / "part" / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / name

    first = session.code_digest(package("first", a="x = 1", b=""))
    assert session.code_digest(package("same", a="x = 1", b="")) == first
    assert session.code_digest(package("edited", a="x = 2", b="")) != first
    assert session.code_digest(package("renamed", a="x = 1", c="")) != first
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "pillow")}
    for name in versions:
        monkeypatch.setattr(importlib.metadata, "version", (versions | {name: "0"}).__getitem__)
        assert session.code_digest(package(name, a="x = 1", b="")) != first


def edit_row(out):
    with (out / "areas.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1 + 3 * 3][4] = "1.00"
    with (out / "areas.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (out / "masks/3.png").unlink(),
        lambda out: (out / "masks/3.png").write_bytes((out / "masks/2.png").read_bytes()),
        edit_row,
        lambda out: (out / RECORD).write_text("".join((out / RECORD).read_text().splitlines(True)[:2])),
        lambda out: (out / RECORD).write_text((out / RECORD).read_text()[: -(140 + 60)]),
    ],
    ids=["mask deleted", "mask replaced", "row edited", "record lost", "record cut off"],
)
def test_a_damaged_result_is_segmented_again(network, films, out, damage):
    before = content(out)
    damage(out)
    kept = segment(network, films, out)[1]
    assert {0, 1} <= set(kept) and not {2, 3} & set(kept)
    assert content(out) == before
    assert segment(network, films, out)[1] == list(range(FILMS))


def test_a_record_that_is_no_table_keeps_nothing(network, films, out):
    before = content(out)
    (out / RECORD).write_bytes(b"\xff\x00,,,\n" * 3)
    assert segment(network, films, out)[1] == [] and content(out) == before


def test_an_unreadable_file_does_not_repeat_its_batch(network, films, out):
    (films / "2.png").write_bytes(b"damaged")
    for _ in range(2):
        tally, kept, failed = segment(network, films, out)
        assert (
            kept == [0, 1, 3, 4] and (tally.segmentations, tally.failures) == (4, 1) and "2.png" in failed[0]
        )
    save(films / "2.png", 98)
    assert segment(network, films, out)[1] == [0, 1, 4]


@pytest.mark.parametrize("other", [False, True], ids=["other bytes", "other network"])
def test_a_file_that_fails_has_no_earlier_result(networks, films, out, other):
    (films / "2.png").write_bytes(b"damaged")
    tally, _, failed = segment(networks[other], films, out)
    assert (tally.segmentations, tally.failures, len(failed)) == (4, 1, 1)
    segment(networks[other], films, out.parent / "fresh")
    assert content(out) == content(out.parent / "fresh")
    assert "masks/2.png" not in content(out)


def test_a_finished_file_that_cannot_be_read_for_its_batch_keeps_its_result(network, films, out, monkeypatch):
    """The batch of films 2 and 3 is segmented again, since the mask of film 3 is missing."""
    before = content(out)
    (out / "masks/3.png").unlink()
    real = run.films.read

    def read(path, label_name):
        if path.name == "2.png":
            raise InputError("no memory")
        return real(path, label_name)

    monkeypatch.setattr(run.films, "read", read)
    assert segment(network, films, out)[0].failures == 1
    assert content(out) == before


def test_a_file_whose_mask_is_refused_leaves_those_of_the_other(network, films, out):
    """The second folder's file 2 has an earlier result of its own under another name."""
    others = out.parent / "others" / "films"
    others.mkdir(parents=True)
    save(others / "2.png", 7)
    tally, *_ = segment(network, others.parent, out)
    assert tally.segmentations == 1 and "masks/films/2.png" in content(out)
    save(others / "2.png", 8)
    before = content(out)["masks/2.png"]
    tally, *_ = segment(network, others, out)
    assert tally.failures == 1 and content(out)["masks/2.png"] == before
    assert segment(network, films, out)[1] == list(range(FILMS))


def test_overlays_are_drawn_anew_where_one_is_missing(network, films, out):
    settings = SETTINGS._replace(overlays=True)
    assert segment(network, films, out, settings)[1] == []
    before = content(out)
    assert len(before) == 2 + 2 * FILMS
    (out / "overlays/4.png").unlink()
    assert segment(network, films, out, settings)[1] == [0, 1, 2, 3] and content(out) == before


def test_a_file_that_changes_while_it_is_segmented_is_segmented_again(network, films, out, monkeypatch):
    save(films / "4.png", 98)
    real = predictor.Predictor.segment

    def segment_and_change(self, images, group):
        save(films / "4.png", 97)
        return real(self, images, group)

    with monkeypatch.context() as patch:
        patch.setattr(predictor.Predictor, "segment", segment_and_change)
        segment(network, films, out)
    assert segment(network, films, out)[1] == [0, 1, 2, 3]
    segment(network, films, out.parent / "fresh")
    assert content(out) == content(out.parent / "fresh")
