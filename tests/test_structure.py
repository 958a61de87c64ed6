"""The house: imports run one way, the numerical parts stand alone, and the README's example runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kneefair_jax"

# What each part may import of the package. A part is a module or a subpackage.
FREE = {"errors", "runtime"}
ALLOWED = {
    "errors": set(),
    "runtime": set(),
    "anatomy": set(),
    "groups": set(),
    "cohort": {"anatomy", "groups"},
    "data": {"anatomy", "groups", "cohort"},
    "models": set(),
    "losses": set(),
    "mitigation": set(),
    "metrics": set(),
    "fairness": {"groups", "metrics"},
    "report": {"anatomy", "groups", "cohort", "fairness"},
    "training": {
        *("anatomy", "groups", "cohort", "data"),
        *("models", "weights", "losses", "mitigation", "metrics", "fairness"),
    },
    "weights": {"anatomy", "models"},
    "predict": {"anatomy", "data", "models", "report", "weights"},
    "export": {"models", "report", "training", "weights"},
    "audit": {
        *("anatomy", "groups", "cohort", "data", "metrics", "fairness", "report"),
        *("predict", "label_errors"),
    },
    "evaluation": {
        *("anatomy", "groups", "data", "metrics", "fairness", "report", "training"),
    },
    "label_errors": {"anatomy", "data", "predict"},
    "preflight": {"cohort", "groups", "data", "label_errors", "report", "training"},
    "runs": {
        *("cohort", "groups", "data", "models", "fairness", "training", "evaluation", "report", "preflight"),
    },
}
# Outside the package, the parts that other people's code imports need these alone.
ALONE = {
    "models": {"jax", "flax"},
    "losses": {"jax"},
    "mitigation": {"jax"},
    "metrics": {"jax", "numpy", "scipy"},  # which jax needs itself
}


def imports(path):
    """Full dotted names that a file imports; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = part_of(path)
    inside = {name.split(".")[1] for name in imports(path) if name.startswith("kneefair_jax.")}
    assert inside - FREE - {part} <= ALLOWED[part]
    outside = {name.split(".")[0] for name in imports(path)}
    assert not outside & {"configs", "launch", "tensorflow", "torch"}
    if part in ALONE:
        foreign = outside - set(sys.stdlib_module_names) - {"kneefair_jax"}
        assert foreign <= ALONE[part]


def test_no_file_is_a_drawer():
    for path in MODULES:
        assert path.stem != "utils"
        assert len(path.read_text().splitlines()) <= 400, path


HEAVY = (
    "tensorflow",
    "tensorflow_datasets",
    "grain",
    "pandas",
    "orbax",
    "PIL",
    "ml_collections",
    "matplotlib",
)


def test_the_numerical_parts_import_in_an_empty_directory(tmp_path):
    code = (
        "from kneefair_jax import models, losses, mitigation, metrics\n"
        "import sys\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "from absl import flags\n"
        "assert not flags.FLAGS.is_parsed()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_the_readme_s_python_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    # One process imports once; each block has only the names that it makes.
    code = f"for block in {blocks!r}: exec(block, {{}})"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)


def test_the_readme_s_commands_name_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for name in set(re.findall(r"(?:configs|benchmarks|docs|recipes)/[\w/.-]+\w", text)):
        assert (ROOT / name).exists(), name
