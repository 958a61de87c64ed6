import json

import pytest

from benchmarks import fault_runs, faults


@pytest.fixture
def workdir(tmp_path):
    """A run that was killed at step 12 while it saved step 12."""
    for name in ("4", "8", "12.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    lines = [json.dumps({"step": step}) for step in (3, 6, 9, 12)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 1']))
    return tmp_path


def test_steps_of_a_killed_run(workdir, tmp_path):
    assert fault_runs.last_step(workdir) == 12
    assert fault_runs.checkpoint_steps(workdir) == [4, 8]
    assert [name for name, _ in fault_runs.unfinished_checkpoints(workdir)] == ["12.orbax-checkpoint-tmp"]
    assert fault_runs.last_step(tmp_path / "new") == 0 and fault_runs.checkpoint_steps(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("log", "step"),
    [
        ("--mode=train\n", 0),
        ("--mode=train\ncontinuing from step 8\n", 8),
        ("continuing from step 8\n--mode=x", 0),
    ],
)
def test_the_step_of_the_last_start(tmp_path, log, step):
    (tmp_path / "run.log").write_text(log)
    assert fault_runs.resumed_step(tmp_path / "run.log") == step


def test_the_last_message_is_no_library_log():
    assert fault_runs.last_message("W0000 jax\nerror: no space\nE0000 grpc") == "error: no space"
    assert fault_runs.last_message("") == ""


def test_the_table_tells_equal_runs_from_others():
    equal = {"state": True, "metrics.jsonl": True}
    rows = [
        faults.row("SIGTERM", "exit 75", 0, equal),
        faults.row("store", "exit 2", 1, equal | {"state": False}),
        faults.row("hosts", "exit 1", None, None),
    ]
    cells = [line.split(" | ")[-1] for line in faults.table(rows).splitlines()[2:]]
    assert cells[0] == "yes |" and cells[1].startswith("no: ") and cells[2] == "did not end |"
