import json
import socket

from kneefair_jax.training import metric_writer


def test_records_beyond_the_restored_step_are_replaced(tmp_path):
    writer = metric_writer.MetricWriter(tmp_path, 0)
    for step in (1, 2, 3):
        writer.write({"step": step, "loss": step / 10, "group_loss": {"sex=a": 0.5}})
    writer.close()
    writer = metric_writer.MetricWriter(tmp_path, 2)
    writer.write({"step": 3, "loss": 7.0})
    writer.close()
    assert [(r["step"], r["loss"]) for r in metric_writer.read(tmp_path / "metrics.jsonl")] == [
        (1, 0.1),
        (2, 0.2),
        (3, 7.0),
    ]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert metric_writer.read(tmp_path / "metrics.jsonl") == [{"step": 1}]
    assert metric_writer.read(tmp_path / "none.jsonl") == []


def test_tensorboard_reads_the_events(tmp_path):
    writer = metric_writer.MetricWriter(tmp_path, 0)
    writer.write({"step": 1, "loss": 0.25, "validation": {"overall": 0.5}})
    writer.close()
    (events,) = (tmp_path / "tensorboard").glob("events*")
    data = events.read_bytes()
    assert b"loss" in data and b"validation/overall" in data and b"brain.Event:2" in data
    assert socket.gethostname() not in events.name.removeprefix("events.out.tfevents")


def test_progress(monkeypatch):
    now = iter([0.0, 2.0, 10.0, 12.0])
    monkeypatch.setattr(metric_writer.time, "perf_counter", lambda: next(now))
    progress = metric_writer.Progress(steps=100, batch_size=8)
    assert progress.line(10, 0.5) == "step  10/100  loss 0.5000"
    assert progress.line(20, 0.25) == "step  20/100  loss 0.2500    40.0 images/s  0m16s left"
    progress.skip()  # an evaluation of eight seconds
    assert "40.0 images/s" in progress.line(30, 0.25)


def test_files_of_a_trace_do_not_name_the_host(tmp_path):
    for session in ("1", "2"):  # the first of a run that was killed in its trace
        folder = tmp_path / "plugins/profile" / session
        folder.mkdir(parents=True)
        for ending in (".xplane.pb", ".trace.json.gz"):
            (folder / f"host.of.jane{ending}").write_text(session)
    metric_writer.anonymize_trace_names(tmp_path)
    metric_writer.anonymize_trace_names(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["host.trace.json.gz"] * 2 + ["host.xplane.pb"] * 2
    assert {path.read_text() for path in files if path.parent.name == "1"} == {"1"}
