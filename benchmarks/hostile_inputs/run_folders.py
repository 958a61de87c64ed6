"""Networks, runs and stores of somebody else: each file of them damaged, replaced or hostile."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.hostile_inputs import Kind
from tests.audit.folder import write as write_masks
from tests.films import folder as write_films
from tests.predict.networks import write as write_network

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--config.data.root=films", "--config.data.size=(16,16)", "--config.model.widths=(2,4)"),
    *("--config.train.steps=2", "--config.train.eval_every=1", "--config.report.bootstrap_draws=40"),
    *("--config.data.workers=0", "--config.data.attributes=('sex',)"),
    *(
        f"--config.augment.{name}=0.0"
        for name in ("rotation", "scale", "shift", "gamma", "contrast", "noise")
    ),
)


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def _with(**changes: Any) -> str:
    """Return the text of a description in which some fields differ."""
    network = {"name": "unet", "widths": [4, 8], "norm": "group"} | changes.pop("network", {})
    structures = ["femur", "tibia", "patella"]
    return json.dumps(
        {"network": network, "structures": structures, "grid": [16, 16, 1], "group": None} | changes
    )


# What the description of a network says -> its text, or what writes it.
DESCRIPTIONS: dict[str, str] = {
    "grid of 0": _with(grid=[0, 16, 1]),
    "grid of -1": _with(grid=[-1, 16, 1]),
    "grid of null": _with(grid=None),
    "grid of 12,000": _with(grid=[12_000, 12_000, 1]),
    "grid of 10**30": _with(grid=[10**30, 16, 1]),
    "grid as text": _with(grid="16x16"),
    "grid of fractions": _with(grid=[16.5, 16, 1]),
    "grid of true": _with(grid=[True, 16, 1]),
    "grid of two sides": _with(grid=[16, 16]),
    "grid of NaN": _with(grid=[float("nan"), 16, 1]),
    "seven channels": _with(grid=[16, 16, 7]),
    "widths as text": _with(network={"widths": "48"}),
    "widths of text": _with(network={"widths": ["4", "8"]}),
    "no widths": _with(network={"widths": []}),
    "a thousand widths": _with(network={"widths": [4] * 1000}),
    "widths of 10**9": _with(network={"widths": [10**9, 10**9]}),
    "widths of -4": _with(network={"widths": [-4, 8]}),
    "convolutions of 10**7": _with(network={"convolutions": 10**7}),
    "unknown norm": _with(network={"norm": "layer"}),
    "norm as a list": _with(network={"norm": ["group"]}),
    "network as text": json.dumps({"network": "unet", "structures": ["a"], "grid": [16, 16, 1]}),
    "network without a name": json.dumps(
        {"network": {"widths": [4]}, "structures": ["a"], "grid": [16, 16, 1]}
    ),
    "unknown field of the network": _with(network={"classes": 4}),
    "structures as numbers": _with(structures=[1, 2, 3]),
    "structures as one text": _with(structures="abc"),
    "no structures": _with(structures=[]),
    "one structure twice": _with(structures=["femur", "femur", "tibia"]),
    "10,000 structures": _with(structures=[f"s{i}" for i in range(10_000)]),
    "structure of 100,000 letters": _with(structures=["f" * 100_000, "tibia", "patella"]),
    "group as a list": _with(group=["sex=f"]),
    "group as a number": _with(group=3),
    "list for an object": "[]",
    "deep nesting": _nested(200_000),
    "deep nesting in a field": '{"grid": ' + _nested(200_000) + "}",
    "duplicate keys": _with()[:-1] + ', "grid": [32, 32, 1]}',
    "integer of 5,000 digits": '{"grid": ' + "9" * 5000 + "}",
    "empty": "",
    "truncated": _with()[:50],
}


def _network(edit: Callable[[Path], object], folder: Path, command: tuple[str, ...] = ()) -> list[str]:
    """A network whose files `edit` spoils, to segment one film with."""
    write_films(folder / "films")
    edit(write_network(folder / "w.safetensors"))
    return list(command) or [
        *("-m", "kneefair_jax.predict", "--checkpoint", "w.safetensors"),
        *("--images", "films/images/0.png", "--out", "out"),
    ]


def _label_errors(text: str, folder: Path) -> list[str]:
    """An audit of masks that also looks for label errors, by a network of that description."""
    write_masks(folder)
    shutil.copytree(folder / "truth", folder / "films")
    _description(text, write_network(folder / "w.safetensors"))
    return [
        *("-m", "kneefair_jax.audit", "--truth", "truth", "--pred", "pred", "--metadata", "metadata.csv"),
        *("--images", "films", "--attributes", "sex", "--labels", "femur=1", "tibia=2", "--draws", "40"),
        *("--label-errors", "w.safetensors", "--out", "out"),
    ]


def _description(text: str, path: Path) -> None:
    path.with_suffix(".json").write_text(text)


def _large(path: Path) -> None:
    """100 MB of JSON that take 2 GB as Python objects."""
    path.with_suffix(".json").write_text("[" + "[]," * 33_000_000 + "[]]")


def _bytes(path: Path) -> None:
    path.with_suffix(".json").write_bytes(b"\xff\xfe\x00{")


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path: Path) -> None:
    if path.is_dir():
        return
    path.unlink(missing_ok=True)
    path.mkdir()


def _device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _sparse(path: Path) -> None:
    """A file whose header, as it should be, claims a tensor of 40 GB, which takes no place on the disk."""
    header = json.dumps(
        {"params/head/bias": {"dtype": "F32", "shape": [10**10], "data_offsets": [0, 4 * 10**10]}}
    )
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + 4 * 10**10)


_SPOIL = {
    "empty": _empty,
    "truncated": _truncate,
    "a pipe": _pipe,
    "a folder": _folder,
    "a device": _device,
    "nested": lambda path: path.write_text(_nested(200_000)),
    "a list": lambda path: path.write_text("[]"),
    "numbers for sections": lambda path: path.write_text(
        json.dumps(dict.fromkeys(json.loads(path.read_text()), 3))
    ),
}


@cache
def _trained() -> Path:
    """A folder with films and a finished, exported run of them, made once."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_films(folder / "films")
    for command in (_launch("train"), ["-m", "kneefair_jax.export", "run"]):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True
        )
    return folder


def _launch(mode: str, *flags: str) -> list[str]:
    script, config = ROOT / "launch.py", ROOT / "configs" / "folder.py"
    return [str(script), f"--mode={mode}", f"--config={config}", "--workdir=run", *SMALL, *flags]


def _evaluate(folder: Path) -> list[str]:
    return _launch("evaluate")


def _resume(folder: Path) -> list[str]:
    shutil.rmtree(folder / "run" / "report")
    return _launch("train")


def _export(folder: Path) -> list[str]:
    return ["-m", "kneefair_jax.export", "run", "--out", "out"]


def _run(
    name: str, spoil: Callable[[Path], object], command: Callable[[Path], list[str]], folder: Path
) -> list[str]:
    """A copy of the trained run in which the files of a name, a glob pattern, are spoiled."""
    for part in ("films", "run"):
        shutil.copytree(_trained() / part, folder / part, symlinks=True)
    paths = sorted((folder / "run").glob(name))
    assert paths, name
    for path in paths:
        spoil(path)
    argv = command(folder)
    (folder / "out").mkdir(exist_ok=True)
    return argv


def _claims(field: str, value: Any, path: Path) -> None:
    """JSON in which one field, by its dotted name, has another value."""
    content = json.loads(path.read_text())
    *sections, last = field.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[last] = value
    path.write_text(json.dumps(content))


def _checkpoints(spoil: Callable[[Path], object], path: Path) -> None:
    """Spoil the files of a checkpoint, without the sums that would show it."""
    for file in [file for file in path.rglob("*") if file.is_file()]:
        if file.name == "SHA256SUMS":
            file.unlink()
        else:
            spoil(file)


def _kinds_of_files(command: Callable[[Path], list[str]], label: str, *patterns: str) -> list[Kind]:
    """Return a kind for each file of a run and each way to spoil it; of all but the first file, three ways."""
    return [
        Kind(
            f"{label}: {Path(pattern).name} {how}",
            partial(_run, pattern, _SPOIL[how], command),
            "refused",
            Path(pattern).stem,
        )
        for pattern in patterns
        for how in (_SPOIL if pattern == patterns[0] else ("truncated", "nested", "numbers for sections"))
    ]


_STORE = "store/case_store/*/*/"
_CLAIMS = {
    "grid of 12,000": ("report/report.json", "run.grid", [12_000, 12_000]),
    "structures as numbers": ("report/report.json", "cohort.structures", [1, 2]),
    "no step": ("report/report.json", "run.step", None),
    "step as a path": ("report/report.json", "run.step", "../../.."),
    "scores as text": ("report/report.json", "scores", "high"),
    "widths of 10**9": ("config.json", "model.widths", [10**9] * 2),
    "head as a list": ("config.json", "mitigation.head.name", ["none"]),
    "versions as text": ("environment.json", "versions", "none"),
}
_CHECKPOINT = {
    "emptied": _empty,
    "truncated": _truncate,
    "replaced by pipes": _pipe,
    "of nested JSON": lambda path: path.write_text(_nested(200_000)),
}
_NEWEST = "checkpoints/2"

KINDS = (
    *(
        Kind(f"model.json: {name}", partial(_network, partial(_description, text)), "refused", "w.json")
        for name, text in DESCRIPTIONS.items()
    ),
    Kind(
        "model.json: structure that is a path",
        partial(_network, partial(_description, _with(structures=["../../escape", "tibia", "patella"]))),
        "works",
    ),
    Kind("model.json: 100 MB", partial(_network, _large), "refused", "w.json"),
    Kind("model.json: bytes that are no text", partial(_network, _bytes), "refused", "w.json"),
    *(
        Kind(
            f"model.json: {name}",
            partial(_network, lambda path, spoil=spoil: spoil(path.with_suffix(".json"))),
            "refused",
            "w.json",
        )
        for name, spoil in _SPOIL.items()
        if name in ("a pipe", "a folder", "a device")
    ),
    *(
        Kind(f"weights: {name}", partial(_network, spoil), "refused", "w.safetensors")
        for name, spoil in (_SPOIL | {"40 GB of zeros": _sparse}).items()
        if name in ("empty", "truncated", "a pipe", "a folder", "a device", "40 GB of zeros")
    ),
    *(
        Kind(
            f"init_from: {name}",
            partial(
                _network,
                partial(_description, DESCRIPTIONS[name]),
                command=tuple(_launch("train", "--config.init_from=w.safetensors")),
            ),
            "refused",
            "w.json",
        )
        for name in ("grid of -1", "structures as numbers", "deep nesting", "group as a list")
    ),
    *(
        Kind(f"label errors: {name}", partial(_label_errors, DESCRIPTIONS[name]), "refused", "w.json")
        for name in ("grid of 0", "widths as text", "duplicate keys", "10,000 structures")
    ),
    *_kinds_of_files(_evaluate, "evaluate", "config.json", "environment.json"),
    *_kinds_of_files(_export, "export", "report/report.json", "config.json", "environment.json"),
    *_kinds_of_files(_evaluate, "store", f"{_STORE}content.json", f"{_STORE}dataset_info.json"),
    *(
        Kind(
            f"export: {name}",
            partial(_run, path, partial(_claims, field, value), _export),
            "refused",
            Path(path).name,
        )
        for name, (path, field, value) in _CLAIMS.items()
    ),
    *(
        Kind(
            f"checkpoint {how}: {label}",
            partial(_run, _NEWEST, partial(_checkpoints, spoil), command),
            "refused",
            "checkpoints",
        )
        for how, spoil in _CHECKPOINT.items()
        for label, command in (("evaluate", _evaluate), ("export", _export), ("resume", _resume))
    ),
    *(
        Kind(
            f"checkpoints deleted: {label}",
            partial(_run, "checkpoints", shutil.rmtree, command),
            "refused",
            "checkpoint",
        )
        for label, command in (("evaluate", _evaluate), ("export", _export))
    ),
    Kind(
        "export: name that leaves the folder",
        partial(_run, "config.json", Path.stat, lambda folder: [*_export(folder), "--name", "../../escaped"]),
        "refused",
        "--name",
    ),
    *(
        Kind(
            f"records {how}",
            partial(_run, f"{_STORE}*.array_record*", spoil, _evaluate),
            "refused",
            "case_store",
        )
        for how, spoil in _SPOIL.items()
        if how in ("empty", "truncated")
    ),
    *(
        Kind(f"metrics.jsonl {how}", partial(_run, "metrics.jsonl", spoil, _evaluate), outcome, "")
        for how, spoil, outcome in (
            ("of a list", lambda path: path.write_text("[]\n3\n"), "refused"),
            ("nested", lambda path: path.write_text(_nested(200_000)), "refused"),
            ("of bytes that are no text", lambda path: path.write_bytes(b"\xff\xfe\x00"), "refused"),
        )
    ),
)
