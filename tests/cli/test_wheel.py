"""The wheel: it holds configs, templates, weights and types, and works without the clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("kneefair_jax", "configs", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import os, setuptools.build_meta as b; os.mkdir('dist'); b.build_wheel('dist')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built in a copy of it."""
    folder = tmp_path_factory.mktemp("build")
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD], cwd=folder, check=True, capture_output=True)
    return next((folder / "dist").glob("*.whl"))


def test_the_wheel_holds_what_the_commands_read(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "kneefair_jax"
    expected = {f"kneefair_jax/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py*")}
    expected |= {f"kneefair_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    for folder, ending in (("report/templates", "html"), ("weights", "safetensors"), ("weights", "json")):
        expected |= {f"kneefair_jax/{folder}/{path.name}" for path in (package / folder).glob(f"*.{ending}")}
    expected.add("kneefair_jax/py.typed")
    assert not {name for name in expected if "__pycache__" not in name} - names
    assert not {name.split("/")[0] for name in names if not name.startswith("kneefair_jax")}


@pytest.mark.slow  # fast: the list of files above
def test_the_wheel_works_in_a_bare_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    subprocess.run(pip, check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    table = [
        {"case_id": f"c{row}", "sex": "fm"[row % 2], "model": model, "dice_femur": 0.9 - 0.001 * row - shift}
        for model, shift in (("a", 0.0), ("b", 0.01))
        for row in range(40)
    ]
    pd.DataFrame(table).to_csv(empty / "scores.csv", index=False)
    hidden = ("PYTHONPATH", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    kneefair = python.with_name("kneefair")
    for words in (
        ("demo", "demo"),
        ("audit", "--scores", "scores.csv", "--attributes", "sex", "--out", "report"),
    ):
        done = subprocess.run([kneefair, *words], cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (empty / "demo" / "quickstart" / "report" / "index.html").is_file()
    assert (empty / "demo" / "segmented" / "overlays" / "knee.png").is_file()
    assert (empty / "report" / "index.html").is_file() and (empty / "report" / "2-b" / "index.html").is_file()
