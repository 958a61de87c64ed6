import subprocess

import pytest

from kneefair_jax.training import integrity


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "7"
    (folder / "state" / "d").mkdir(parents=True)
    (folder / "metrics").mkdir()
    (folder / "state" / "d" / "array").write_bytes(bytes(1000))
    (folder / "metrics" / "metrics").write_text("{}")
    (folder / "changed_later").write_text("a")
    integrity.seal(folder)
    return folder


def test_sums_are_those_of_sha256sum(sealed):
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", integrity.SUMS], cwd=sealed, check=True)
    assert len((sealed / integrity.SUMS).read_text().splitlines()) == 2 + 1


def test_what_is_as_it_was_is_whole(sealed):
    (sealed / "changed_later").write_text("b")
    assert integrity.damage(sealed) is None


@pytest.mark.parametrize("data", [bytes(500), bytes(999) + b"\1", b""])
def test_one_bit_or_all(sealed, data):
    (sealed / "state" / "d" / "array").write_bytes(data)
    assert integrity.damage(sealed) == f"{sealed}/state/d/array is not what was written"
    assert integrity.damage(sealed, "metrics/") is None


def test_what_is_absent_is_damage_of_the_whole_alone(sealed):
    (sealed / "metrics" / "metrics").unlink()
    assert integrity.damage(sealed) == f"{sealed}/metrics/metrics is missing"
    assert integrity.damage(sealed, "metrics/") is None


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_sums_that_are_cut_are_damage(sealed, lines):
    text = (sealed / integrity.SUMS).read_text().splitlines(keepends=True)
    (sealed / integrity.SUMS).write_text("".join(text[:lines]))
    assert integrity.damage(sealed) == f"{sealed}/{integrity.SUMS} is not what was written"


def test_without_sums_nothing_is_said(sealed):
    (sealed / integrity.SUMS).unlink()
    (sealed / "state" / "d" / "array").unlink()
    assert integrity.damage(sealed) is None


def test_each_damaged_one_has_a_name_of_its_own(sealed):
    assert integrity.set_aside(sealed).name == "damaged_7_0"
    sealed.mkdir()
    assert integrity.set_aside(sealed).name == "damaged_7_1"
    assert not sealed.exists()
