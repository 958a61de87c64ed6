"""The notebooks run: in full by the slow tests, with small settings by the fast ones."""

import json
import re

import jax.numpy as jnp
import matplotlib.pyplot as plt
import pytest

from tests import documents

NOTEBOOKS = sorted((documents.ROOT / "examples").glob("*.ipynb"))
SMALL = {"PATIENTS": 24, "DRAWS": 99, "STEPS": 1, "SIZE": 18}


def code(path):
    """Return the code of a notebook's cells."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(path, cells):
    """Execute cells with small settings, and return their names."""
    names = {}
    with plt.rc_context({"backend": "agg"}):
        for cell in cells:
            small = re.sub(
                r"^([A-Z]+) = \d+", lambda match: f"{match[1]} = {SMALL[match[1]]}", cell, flags=re.MULTILINE
            )
            exec(compile(re.sub(r"^%.*", "", small, flags=re.MULTILINE), str(path), "exec"), names)
    plt.close("all")
    return names


def test_the_audit_of_arrays_runs_with_small_settings():
    path = documents.ROOT / "examples" / "audit_arrays.ipynb"
    names = run(path, code(path))
    dice = names["result"].cases.groupby(["model", "sex"], observed=True)["dice"].mean()
    assert dice["b", "female"] < dice["a", "female"]  # model b draws too wide for women
    assert set(names["comparison"].changes["attribute"]) == {"sex", "race"}


def test_the_weighted_loss_of_group_dro_is_its_objective():
    path = documents.ROOT / "examples" / "group_dro.ipynb"
    training = next(i for i, cell in enumerate(code(path)) if cell.startswith("from flax import nnx"))
    names = run(path, code(path)[:training])  # data and objective, without the networks
    objective = names["objectives"]["group DRO"]
    image, label, group = (part[:16] for part in names["train"])
    logits = jnp.concatenate([-image, image], -1)
    value, state = names["weighted_loss"](objective, logits, label, group, objective.init(names["counts"]))
    assert float(value) > 0 and float(jnp.exp(state.log_q).sum()) == pytest.approx(1)


@pytest.mark.slow
def test_group_dro_runs_with_small_settings():
    path = documents.ROOT / "examples" / "group_dro.ipynb"
    assert len(run(path, code(path))["reports"]) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_is_executed_and_there_is_a_plot(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_full(path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(documents.ROOT)}}).execute()
