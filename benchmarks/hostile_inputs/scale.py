"""Tables of scores, settings and folders of films that are too large, too small, repetitive or out of range."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import scaling
from benchmarks.hostile_inputs import Kind
from tests.predict import networks

LONG = 300.0  # seconds, of much work that shows its progress
Change = Callable[[pd.DataFrame], pd.DataFrame]


def _kind(
    name: str,
    outcome: str,
    mention: str = "",
    change: Change = lambda table: table,
    options: Sequence[str] = (),
    patients: int = 60,
    seconds: float | None = None,
) -> Kind:
    """An audit of a changed table of scores."""

    def make(folder: Path) -> list[str]:
        change(scaling.scores(patients)).to_csv(folder / "scores.csv", index=False)
        attributes = [] if "--attributes" in options else ["--attributes", "sex", "race"]
        draws = [] if "--draws" in options else ["--draws", "200"]
        common = ["-m", "kneefair_jax.audit", "--scores", "scores.csv", "--out", "out"]
        return [*common, *attributes, *draws, *options]

    return Kind(f"scores: {name}", make, outcome, mention, seconds)


def _bytes(name: str, content: bytes, mention: str = "scores.csv") -> Kind:
    """An audit of a file of scores with this content, which is refused."""

    def make(folder: Path) -> list[str]:
        (folder / "scores.csv").write_bytes(content)
        return ["-m", "kneefair_jax.audit", "--scores", "scores.csv", "--attributes", "sex", "--out", "out"]

    return Kind(f"scores: {name}", make, "refused", mention)


def _option(option: str, value: str) -> Kind:
    """An audit with a value of an option that is refused."""
    name = f"{option} {value[:20]}"
    return _kind(name, "refused", option, options=[f"{option}={value}"])


def _batch(size: str, outcome: str) -> Kind:
    """A prediction of nine films with a batch size."""

    def make(folder: Path) -> list[str]:
        scaling.films(folder / "films", 9)
        networks.write(folder / "network.safetensors")
        arguments = ["--checkpoint", "network.safetensors", "--images", "films", "--out", "out"]
        return ["-m", "kneefair_jax.predict", *arguments, f"--batch-size={size}"]

    return Kind(f"predict: batch size {size}", make, outcome)


def _set(column: str, value: object, rows: slice = slice(0, 1)) -> Change:
    """Write a value into rows of a column."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table[column] = table[column].astype(object)
        table.loc[table.index[rows], column] = value
        return table

    return change


def _models(count: int) -> Change:
    return lambda table: pd.concat([table.assign(model=f"m{k}") for k in range(count)])


def _attributes(count: int) -> Change:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(2)
        columns = {f"a{k}": np.repeat(rng.choice(["x", "y"], len(table) // 4), 4) for k in range(count)}
        return table.assign(**columns)

    return change


def _levels(count: int) -> Change:
    return lambda table: table.assign(site=[f"s{k // 4 % count:04d}" for k in range(len(table))])


def _structures(count: int) -> Change:
    return lambda table: pd.concat(
        [table[table["structure"] == "femur"].assign(structure=f"bone {k}") for k in range(count)]
    )


def _first(patients: int) -> Change:
    return lambda table: table.iloc[: 4 * patients]


_ALL = slice(None)
KINDS = (
    _kind("one patient", "works", change=_first(1)),
    _kind("two patients", "works", change=_first(2)),
    _kind("one group", "works", change=_set("sex", "female", _ALL)),
    _kind("attribute empty in every row", "refused", "sex", _set("sex", "", _ALL)),
    _kind("all scores equal", "works", change=_set("dice", 0.9, _ALL)),
    _kind("all segmentations perfect", "works", change=_set("dice", 1.0, _ALL)),
    _kind("all segmentations failed", "works", change=_set("dice", 0.0, _ALL)),
    _kind("no score at all", "refused", "dice", _set("dice", "", _ALL)),
    _kind("scores in percent", "refused", "percent", lambda t: t.assign(dice=100 * t["dice"])),
    _kind("one negative score", "refused", "row 2", _set("dice", -0.1)),
    _kind("one infinite score", "refused", "row 2", _set("dice", "inf")),
    _kind("one score a word", "refused", "row 2", _set("dice", "good")),
    _kind("one score with 400 digits", "refused", "row 2", _set("dice", "9" * 400)),
    _kind("a score of 1e-320", "works", change=_set("dice", "1e-320")),
    _kind("a distance of 1e308", "works", change=_set("hd95_mm", "1e308", slice(0, 40))),
    _kind("every row twice", "refused", "twice", lambda t: pd.concat([t, t])),
    _kind("one case in all rows", "refused", "P0", lambda t: t.assign(case_id="P0")),
    _kind("case identifier of 200,000 characters", "refused", "scores.csv", _set("case_id", "P" * 200_000)),
    _kind("level of 5,000 characters", "works", change=_set("sex", "x" * 5_000, slice(0, 80))),
    _kind("no column of an attribute", "refused", "height", options=["--attributes", "height"]),
    _kind("an attribute twice", "refused", "sex", options=["--attributes", "sex", "sex"]),
    _kind(
        "attribute with a level per patient",
        "works",
        change=_levels(400),
        patients=400,
        options=["--attributes", "site"],
    ),
    _kind(
        "attribute of 40 ranked levels",
        "works",
        change=_levels(40),
        patients=480,
        options=["--attributes", "site"],
    ),
    _kind(
        "ten attributes",
        "works",
        change=_attributes(10),
        options=["--attributes", *(f"a{k}" for k in range(10))],
    ),
    _kind("60 structures", "works", change=_structures(60), seconds=LONG),
    _kind("six models", "works", change=_models(6), seconds=LONG),
    _kind(
        "2,000 columns that nobody asked for",
        "works",
        change=lambda t: pd.concat([t, pd.DataFrame(0, t.index, [f"c{k}" for k in range(2000)])], axis=1),
    ),
    _kind(
        "60,000 patients, three groups",
        "works",
        "permutations",
        patients=60_000,
        seconds=LONG,
        options=["--no-intersections", "--draws", "10000"],
    ),
    _kind(
        "a group of ten in 30,000 patients",
        "works",
        change=_set("race", "D", slice(0, 40)),
        patients=30_000,
        seconds=LONG,
        options=["--no-intersections"],
    ),
    _kind("output below a file", "refused", "--out", options=["--out", "scores.csv/out"]),
    _bytes("empty file", b""),
    _bytes("header alone", b"case_id,structure,dice,sex\n"),
    _bytes("zeros", bytes(100_000)),
    _bytes("gzip under the name of a table", b"\x1f\x8b\x08\x00" + bytes(range(256)) * 40),
    _bytes(
        "quote that is never closed",
        b'case_id,structure,dice,sex\n"a,femur,0.9,f\n' + b"b,femur,0.9,m\n" * 20_000,
    ),
    _bytes("cell of a megabyte", b"case_id,structure,dice,sex\n" + b"a" * 1_000_000 + b",femur,0.9,f\n"),
    _bytes("one line of commas", b"," * 200_000),
    _option("--draws", "0"),
    _option("--draws", "-5"),
    _option("--draws", "1" + "0" * 30),
    _option("--seed", "-1"),
    _option("--min-group-patients", "0"),
    _option("--failure-dice", "nan"),
    _option("--failure-dice", "1.5"),
    _option("--delta", "dice=-1"),
    _option("--delta", "dice=nan"),
    _option("--delta", "height=0.1"),
    _option("--primary", "height"),
    _option("--endpoint", "dice>=2"),
    _kind("--bins sex=5,3", "refused", "bins", options=["--bins=sex=5,3"]),
    _option("--bins", "sex=nan"),
    _batch("0", "refused"),
    _batch("-8", "refused"),
    _batch("1000000", "refused"),
    _batch("1" + "0" * 25, "refused"),
)
