import pytest

from benchmarks import hostile
from benchmarks.hostile_inputs import Kind


def code(text, outcome="refused", mention=""):
    return Kind("kind", lambda folder: ["-c", text], outcome, mention)


@pytest.mark.linux
def test_one_line_and_the_right_status_pass():
    row = hostile.run(
        code("import sys; print('error: a.png', file=sys.stderr); sys.exit(2)", mention="a.png")
    )
    assert row["faults"] == [] and row["line"] == "error: a.png" and row["status"] == 2


@pytest.mark.linux
@pytest.mark.parametrize(
    ("text", "outcome", "fault"),
    [
        ("raise ValueError", "reported", "traceback"),
        ("pass", "refused", "status 0"),
        ("import sys; sys.exit(2)", "refused", "0 error lines"),
        ("open('left.txt', 'w')", "works", "files outside: left.txt"),
        ("import time; time.sleep(9)", "works", "more than 1 s"),
        ("import time; x = b'1' * (30 << 20); time.sleep(0.3)", "works", "more than 0.02 GiB"),
    ],
)
def test_each_fault_is_named(text, outcome, fault, monkeypatch):
    monkeypatch.setattr(hostile, "SECONDS", 1.0)
    monkeypatch.setattr(hostile, "GIBIBYTES", 0.02)
    assert fault in hostile.run(code(text, outcome))["faults"]


def test_kinds_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(hostile.pkgutil, "iter_modules", lambda path: [type("M", (), {"name": "tables"})] * 2)
    family = type("Family", (), {"KINDS": (code(""),)})
    monkeypatch.setattr(hostile.importlib, "import_module", lambda name: family)
    with pytest.raises(ValueError, match="kind"):
        hostile.kinds()
