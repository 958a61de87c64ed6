"""Imports run one way, and the numerical packages have few dependencies."""

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kneefair_jax"

# The rooms that each room may import besides `GROUND`, in order. A room is a module or a subpackage.
GROUND = {"errors", "safe_text"}
ALLOWED = {
    "errors": set(),
    "safe_text": set(),
    "anatomy": set(),
    "groups": set(),
    "cohort": {"groups"},
    "runtime": set(),
    "models": set(),
    "losses": set(),
    "mitigation": {"runtime"},  # `schema`, for the ranges of settings
    "metrics": set(),
    "fairness": {"groups"},
    "measurements": {"anatomy"},
    "data": {"anatomy", "cohort", "groups", "runtime"},
    "weights": {"anatomy", "models", "runtime"},
    "report": {"anatomy", "cohort", "fairness", "groups", "measurements", "runtime"},
    "training": {
        *("anatomy", "data", "fairness", "groups", "runtime", "weights"),
        *("losses", "measurements", "metrics", "mitigation", "models"),
    },
    "predict": {"anatomy", "data", "measurements", "models", "report", "runtime", "weights"},
    "label_errors": {"anatomy", "data", "metrics", "predict", "runtime"},
    "audit": {
        *("anatomy", "cohort", "data", "fairness", "groups", "label_errors", "measurements", "metrics"),
        *("predict", "report", "runtime"),
    },
    "evaluation": {
        *("anatomy", "data", "fairness", "groups", "measurements", "metrics", "report", "runtime"),
        "training",
    },
    "export": {"anatomy", "evaluation", "models", "predict", "report", "runtime", "training", "weights"},
    "preflight": {
        *("anatomy", "cohort", "data", "groups", "label_errors", "measurements", "report", "runtime"),
        "training",
    },
    "runs": {
        *("cohort", "data", "evaluation", "fairness", "groups", "models", "preflight", "report", "runtime"),
        "training",
    },
    "cli": {
        *("anatomy", "audit", "cohort", "data", "export", "groups", "measurements", "predict", "preflight"),
        *("report", "runs", "runtime", "training", "weights"),
    },
}
# Third-party dependencies of the rooms that other projects import.
ALONE = {
    "models": {"jax", "flax"},
    "losses": {"jax"},
    "mitigation": {"jax"},
    "metrics": {"jax", "numpy", "scipy"},  # dependencies of jax
    "measurements": {"contourpy", "numpy", "scipy"},
}


def imports(path):
    """Yield the dotted names that a file imports; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


# Above every other module: `fairness.GroupReport` and `fairness.compare` call the audit, and no module imports them.
FRONT_DOOR = [PACKAGE / "fairness/group_report.py", PACKAGE / "fairness/model_report.py"]
MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = room_of(path)
    inside = {name.split(".")[1] for name in imports(path) if name.startswith("kneefair_jax.")}
    if path not in FRONT_DOOR:
        assert inside - {*GROUND, room} <= ALLOWED[room]
        modules = {name.rpartition(".")[0] for name in imports(path)} | set(imports(path))
        assert not {module_of(door) for door in FRONT_DOOR} & modules
    packages = {name.split(".")[0] for name in imports(path)}
    assert not packages & {"configs", "launch", "tensorflow", "torch"}
    if room in ALONE:
        foreign = packages - set(sys.stdlib_module_names) - {"kneefair_jax"}
        assert foreign <= ALONE[room]


def module_of(path):
    """`kneefair_jax/data/__init__.py` -> `kneefair_jax.data`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_arrow_points_back_up():
    earlier = set()
    for room, allowed in ALLOWED.items():
        assert allowed <= earlier, room
        earlier.add(room)


def test_no_circle_of_imports():
    modules = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
        & modules.keys()
        for module, path in modules.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(modules)


def test_files_are_small_and_few_at_the_top():
    assert len([path for path in MODULES if path.parent == PACKAGE]) <= 6
    for path in MODULES:
        assert path.stem != "utils"
        assert len(path.read_text().splitlines()) <= 400, path


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.stem == "__init__"], ids=lambda path: path.parent.name
)
def test_packages_only_hand_names_on(path):
    definitions = (ast.FunctionDef, ast.ClassDef)
    assert not [node for node in ast.parse(path.read_text()).body if isinstance(node, definitions)]
    package = importlib.import_module(module_of(path))
    for name in package.__all__:
        exec(f"from {package.__name__} import {name}", {})


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
