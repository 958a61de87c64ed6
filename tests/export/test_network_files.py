import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import special

from kneefair_jax import models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.export import network_files
from kneefair_jax.export.__main__ import file_size, main
from kneefair_jax.predict import quality
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState

NETWORK = {"name": "unet", "widths": [2], "norm": "group", "weights": ""}


def save(folder, seed, group):
    model = models.create(NETWORK, classes=2)
    # Like a head's module, which is not exported.
    params = model.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))["params"]
    with_head = params | {"critic": {"kernel": jnp.ones(3)}}
    checkpoints = Checkpoints(folder / "checkpoints")
    state = TrainState(jnp.uint32(0), jnp.int32(7), with_head, {}, (), ())
    checkpoints.save(state, {"overall": 0.5, "groups": {group: 0.5}}, 1.0)
    checkpoints.close()
    return params


def run_folder(folder, schedule, step):
    mitigation = {"head": {"name": "attribute_head"}, "schedule": {"name": schedule}}
    scores = {"a": {"overall": {"mean": 0.9, "interval": None, "patients": 30, "cases": 30}, "groups": {}}}
    report = {
        "cohort": {"structures": ["a"]},
        "scores": {"dice": {"structures": scores}},
        "run": {
            "grid": [8, 8],
            "step": step,
            "config": {},
            "fingerprint": "",
            "steps_in_all": 7,
            "times": {},
        },
    }
    environment = dict.fromkeys(("command", "commit", "device", "started"), "") | {"versions": {}}
    (folder / "report").mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"model": NETWORK, "data": {"channels": 1}, "mitigation": mitigation})
    )
    (folder / "report/report.json").write_text(json.dumps(report))
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def test_a_run_is_exported_as_weights(tmp_path, capsys):
    run = run_folder(tmp_path / "run", "single", 7)
    params = save(run, 0, "sex=f")
    with pytest.raises(InputError, match=r"kneefair export .*run"):
        weights.load_by_group(run)
    assert main([str(run)]) == 0
    size = (run / "export/model.safetensors").stat().st_size
    assert size < 1e5 and f"model.safetensors: {size / 1000:.1f} kB;" in capsys.readouterr().out
    assert "License of the weights: not recorded" in (run / "export/model.md").read_text()
    network = weights.select_group(weights.load_by_group(run), None)
    jax.tree.map(np.testing.assert_array_equal, network.variables["params"], dict(params))
    assert network.about["step"] == 7 and network.about["dice"]["a"]["all"]["mean"] == 0.9
    assert network.about["grid"] == [8, 8, 1]
    assert network.about["fit"] == "stretch" and network.about["input"]["epsilon"] == 1e-3
    for name in weights.NAMES:
        assert weights.load(name).about["input"] == network.about["input"]


def validation_table(cases):
    """Per-case scores of two structures by two rules; the Dice of `a` is its soft Dice."""
    soft = special.expit(np.random.default_rng(0).normal(4, 0.5, cases))
    rows = [
        {
            "case_id": f"c{case}",
            "patient_id": f"p{case}",
            "split": split,
            "model": rule,
            "structure": structure,
            "dice": value,
            "soft_dice": value if structure == "a" else np.nan,
        }
        for split, rule in (("validation", "overall"), ("validation", "worst_group"), ("test", "overall"))
        for structure in ("a", "fibula")
        for case, value in enumerate(soft if (split, rule) == ("validation", "overall") else soft / 2)
    ]
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(("case_id", "patient_id", "split", "model", "structure"), "category"))


@pytest.mark.parametrize("cases", [49, 60])
def test_a_run_is_calibrated_on_its_validation_cases(tmp_path, capsys, cases):
    run = run_folder(tmp_path / "run", "single", 7)
    save(run, 0, "sex=f")
    validation_table(cases).to_parquet(run / "cases.parquet")
    assert main([str(run), "--false-alarms", "0.2"]) == 0
    about = weights.load(run / "export/model.safetensors").about
    assert ("not calibrated" in capsys.readouterr().out) == (cases < 50)
    if cases < 50:
        assert "quality" not in about
        return
    calibration = quality.read_calibration(about["quality"])
    line = calibration.lines["a"]
    np.testing.assert_allclose([line.intercept, line.slope, line.low, line.high], [0, 1, 0, 0], atol=1e-6)
    soft = special.logit(validation_table(cases).query("model == 'overall'")["soft_dice"].iloc[:cases])
    assert calibration.total.names == ("a",)
    assert calibration.total.limit == pytest.approx(np.quantile(soft, 0.2))
    assert line.limit == pytest.approx(np.quantile(soft, 0.2) - quality.MARGIN)


def test_a_share_of_false_alarms_is_checked(tmp_path, capsys):
    assert main([str(run_folder(tmp_path / "run", "single", 7)), "--false-alarms", "0"]) == 2
    assert "--false-alarms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "text"), [(540, "0.5 kB"), (99_900, "99.9 kB"), (100_000, "0.1 MB"), (7_840_000, "7.8 MB")]
)
def test_a_file_size_has_a_unit_that_fits(count, text):
    assert file_size(count) == text


def test_classes_may_differ_from_the_scored_structures(tmp_path):
    run = run_folder(tmp_path / "run", "single", 7)
    save(run, 0, "sex=f")
    report = json.loads((run / "report" / "report.json").read_text())
    report["run"]["classes"] = ["b"]
    (run / "report" / "report.json").write_text(json.dumps(report))
    (path,) = network_files.export(run, run / network_files.FOLDER, fit="pad")
    about = weights.load(path).about
    assert about["structures"] == ["b"] and list(about["dice"]) == ["a"] and about["fit"] == "pad"


def test_each_group_s_network_is_selected_by_its_name(tmp_path):
    run = run_folder(tmp_path / "run", "group_specific", {"age=<=50": 7, "age=>=51": 7})
    params = [save(run / f"stages/group_{g}", g, name) for g, name in enumerate(["age=>=51", "age=<=50"])]
    paths = network_files.export(run, run / network_files.FOLDER)
    assert [path.name for path in paths] == ["model_0.safetensors", "model_1.safetensors"]
    networks = weights.load_by_group(run)
    kernel = weights.select_group(networks, "age=<=50").variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(kernel, params[1]["head"]["kernel"])
    with pytest.raises(InputError, match=r"each for one group; give one of 'age=>=51', 'age=<=50'"):
        weights.select_group(networks, None)
    assert weights.load(paths[0]).about["group"] == "age=>=51"


@pytest.mark.parametrize(
    ("schedule", "first", "later"),
    [("single", 7, 8), ("group_specific", {"sex=f": 7}, {"sex=f": 8})],
)
def test_an_export_of_another_step_than_the_report_selects_is_refused(tmp_path, schedule, first, later):
    """`evaluate --config.select=...` may select another checkpoint after the export."""
    run = run_folder(tmp_path / "run", schedule, first)
    save(run if schedule == "single" else run / "stages/group_0", 0, "sex=f")
    network_files.export(run, run / network_files.FOLDER)
    (network,) = weights.load_by_group(run).values()
    assert network.about["step"] == 7
    path = run / "report" / "report.json"
    report = json.loads(path.read_text())
    report["run"]["step"] = later
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"step 7.* step 8.*export .* --overwrite"):
        weights.load_by_group(run)


def test_unfinished_runs_are_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "give the folder of a finished run" in capsys.readouterr().err
    run = run_folder(tmp_path / "run", "single", 7)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(
        json.dumps(config | {"mitigation": {"head": {"name": "moe"}, "schedule": {"name": "single"}}})
    )
    with pytest.raises(InputError, match="'moe', which needs the group"):
        network_files.export(run, tmp_path / "out")


def test_an_export_replaces_its_earlier_files_on_request_and_no_others(tmp_path):
    run = run_folder(tmp_path / "run", "single", 7)
    save(run, 0, "sex=f")
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.json").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"model\.json.*another --out"):
            network_files.export(run, out, overwrite=overwrite)
    (path,) = network_files.export(run, out, "knee")
    written = path.read_bytes()
    path.write_bytes(b"stale")
    with pytest.raises(InputError, match=r"an earlier export \(.*--overwrite"):
        network_files.export(run, out, "knee")
    network_files.export(run, out, "knee", overwrite=True)
    assert path.read_bytes() == written and (out / "model.json").read_text() == "mine"
