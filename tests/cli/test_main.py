"""The command `kneefair`: sub-commands, help, version, and what it imports."""

import subprocess
import sys

import pytest

import kneefair_jax
from kneefair_jax.cli import main, run_help


def run(capsys, *words):
    """Return the status and the output of `kneefair WORDS`."""
    with pytest.raises(SystemExit) as stop:
        main.run(["kneefair", *words])
    return stop.value.code or 0, *capsys.readouterr()


def test_the_help_names_every_task_with_an_example(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for name in (
        "train",
        "evaluate",
        "check",
        "study",
        "predict",
        "audit",
        "measure",
        "twins",
        "export",
        "demo",
        "init",
    ):
        assert f"\n  {name} " in out
    assert "\n  kneefair demo\n" in out


def test_the_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"kneefair {kneefair_jax.__version__}\n")


def test_a_misspelled_task_is_refused_with_the_near_name(capsys):
    status, out, err = run(capsys, "trian")
    assert (status, out) == (2, "") and "'train'" in err


@pytest.mark.parametrize("mode", main.RUN_MODES)
def test_the_help_of_a_run_has_an_example_and_the_fields(mode, capsys):
    status, out, _ = run(capsys, mode, "--help")
    assert status == 0 and f"  kneefair {mode} " in out
    assert "  train.batch_size=8 " in out and "cases, over all devices" in out
    assert out == run_help.text(f"kneefair {mode}", mode)


@pytest.mark.parametrize("task", ["predict", "audit", "measure", "export"])
def test_the_help_of_a_task_has_an_example(task, capsys):
    status, out, _ = run(capsys, task, "--help")
    assert status == 0 and f"\n  kneefair {task} " in out


def test_the_help_imports_no_numerical_library():
    code = (
        "import sys\nfrom kneefair_jax.cli import main\nmain.text()\n"
        "assert not {'jax', 'numpy', 'pandas', 'absl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
