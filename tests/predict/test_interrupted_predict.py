"""Signals and full disks at chosen moments of `predict`: finished files stay, the same command completes the rest."""

import csv
import errno
import hashlib
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.predict import writers
from kneefair_jax.predict.__main__ import main
from kneefair_jax.runtime import atomic
from tests.predict.networks import write

FILMS = 5


@pytest.fixture(scope="module")
def argv(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    pictures = np.random.default_rng(0).integers(0, 256, (FILMS, 24, 20), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
    weights = write(tmp_path_factory.mktemp("weights") / "w.safetensors")
    return ["--checkpoint", str(weights), "--images", str(folder), "--batch-size", "2", "--out"]


@pytest.fixture(scope="module")
def straight(argv, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "out"
    assert main([*argv, str(out)]) == 0
    return content(out)


def content(out):
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def listed(out):
    with (out / "areas.csv").open(newline="") as file:
        return sorted({row["mask"] for row in csv.DictReader(file)})


def at_overlay(number, event):
    """An overlay writer that calls `event` with its path at the overlay of this number, from 1."""
    calls, real = [], writers.overlay

    def overlay(path, *arguments, **options):
        calls.append(path)
        if len(calls) == number:
            event(path)
        real(path, *arguments, **options)

    return overlay


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
@pytest.mark.parametrize("at", [1, 4])
def test_a_signal_keeps_what_is_finished(argv, straight, tmp_path, monkeypatch, capsys, number, status, at):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(writers, "overlay", at_overlay(at, lambda _: signal.raise_signal(number)))
        assert main([*argv, str(out)]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert listed(out) == [f"masks/{film}.png" for film in range(at - 1)]
    assert not list(out.rglob(".part-*"))
    kept = content(out)
    assert all(straight[f"masks/{film}.png"] == kept[f"masks/{film}.png"] for film in range(at - 1))
    assert main([*argv, str(out)]) == 0
    assert content(out) == straight
    finished = (at - 1) // 2 * 2  # in whole batches
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == FILMS - finished + 2  # a line per segmented film, and two of the counts
    assert f"{FILMS} segmented" in printed[-2] and (f"({finished} by an earlier run" in printed[-2]) == (
        finished > 0
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_failing_disk_ends_with_one_line_and_keeps_what_is_finished(
    argv, straight, tmp_path, monkeypatch, capsys, number
):
    def fail(path):
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(writers, "overlay", at_overlay(3, fail))
        assert main([*argv, str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(out / "overlays/2.png") in line
    assert listed(out) == ["masks/0.png", "masks/1.png"] and not (out / "overlays/2.png").exists()
    assert main([*argv, str(out)]) == 0
    assert content(out) == straight


def test_a_disk_that_is_full_for_the_table_leaves_whole_rows(argv, straight, tmp_path, monkeypatch, capsys):
    """The system takes a part of the third film's rows, and nothing of the table's final version."""
    real, calls = os.write, []

    def short(descriptor, data):
        if b"masks/" not in data:  # not a line of the table
            return real(descriptor, data)
        calls.append(data)
        if len(calls) < 3:
            return real(descriptor, data)
        monkeypatch.setattr(atomic, "write_text", full)
        if len(calls) == 3:
            return real(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    out = tmp_path / "out"
    monkeypatch.setattr("kneefair_jax.predict.areas.os.write", short)
    assert main([*argv, str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(out / "areas.csv") in line
    text = (out / "areas.csv").read_text()
    assert text.endswith("\n") and len(text.splitlines()) == 1 + 2 * 3
    monkeypatch.undo()
    assert main([*argv, str(out)]) == 0
    assert content(out) == straight


def test_a_folder_that_is_deleted_meanwhile_is_named(argv, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(writers, "overlay", at_overlay(2, lambda _: shutil.rmtree(out)))
    assert main([*argv, str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(out) in line
    assert not out.exists()


def test_too_little_memory_for_a_batch(argv, tmp_path, monkeypatch, capsys):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("kneefair_jax.predict.predictor.Predictor.segment", exhausted)
    assert main([*argv, str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--batch-size" in line
