"""A batch for the formulas of group objectives, in NumPy in double precision.

Each test file of an objective has a dictionary `FORMS`: its name -> (F(losses), the settings that F uses).
`test_gradients.py` compares every one of them with the objective's weights and value.
"""

import importlib
from pathlib import Path

import numpy as np

COUNTS, PATIENTS = np.array([12, 3, 5, 0]), np.array([6, 3, 4, 0])
GROUP = np.array([0, 0, 0, 1, 1, 2, 0, -1, 2, 0, 1, 2])
MASK = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1.0])
LOSSES = np.random.default_rng(0).permutation(np.linspace(0.2, 2, 12))  # nothing is tied


def means(losses):
    return np.array([losses[(g == GROUP) & (MASK > 0)].mean() for g in range(3)])


def cvar(losses, alpha):
    """The minimum over c of c + mean(max(l - c, 0)) / alpha, attained at a loss (Rockafellar and Uryasev)."""
    return min(c + np.maximum(losses - c, 0).mean() / alpha for c in losses)


def collect():
    """Return the `FORMS` of all test files of this folder."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    modules = [
        importlib.import_module(f"tests.mitigation.{name}") for name in names if name != "test_gradients"
    ]
    return {name: form for module in modules for name, form in getattr(module, "FORMS", {}).items()}
