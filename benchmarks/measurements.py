"""Errors of `kneefair_jax.measurements`: against drawings, by pixel size, of a network's masks, on real bones; speed.

    python -m benchmarks.measurements [BONES PROJECT.py] [--cases 100] [--sections exact network bones speed bias size]

`exact` are masks of unseen clinical phantoms in pixels of 0.2 mm and more, against the polygons that drew them, on
films without a collimated field. `network` are the probabilities of a shipped network on its working grid, against
exact masks of the same films. `bones` are films of surfaces of real bones (`benchmarks.real_bones`): silhouettes at
the films' size against silhouettes of the same films in a third of the pixel, and the network's masks against those.
`bias` are masks that are drawn 0.5 mm too far out, and random groups of unbiased ones. `size` are two groups with that
same error, of which one has bones a tenth smaller.
"""

import argparse
import copy
import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from benchmarks import real_bones
from benchmarks.machine import conditions
from kneefair_jax import anatomy, measurements
from kneefair_jax.data.phantom import case, render, shapes
from kneefair_jax.fairness.measurement_errors import measurement_errors
from kneefair_jax.measurements import MEASUREMENTS, Knee, contours
from kneefair_jax.predict import grid
from kneefair_jax.runtime import atomic

SEED = 8_300_000
OVERLAPS = anatomy.SCHEMES["knee_overlaps"]
PIXELS = (0.2, 0.4, 0.6, 0.8, 1.1)
FINER = 3  # how much smaller the pixels of the reference are
Values = dict[str, float]


def values(result: Mapping[str, measurements.Measurement]) -> Values:
    """Return name -> value, NaN where a measurement cannot be taken."""
    return {name: one.value for name, one in result.items()}


def errors(measured: Sequence[Values], reference: Sequence[Values]) -> dict[str, dict[str, float]]:
    """Return bias, mean absolute error, its 95th percentile and largest value by measurement."""
    difference = pd.DataFrame(measured) - pd.DataFrame(reference)
    return {
        name: {
            "bias": float(column.mean()),
            "mean_absolute": float(column.abs().mean()),
            "percentile_95": float(column.abs().quantile(0.95)),
            "largest": float(column.abs().max()),
            "knees": int(column.count()),
            "not_measured": int(
                (pd.DataFrame(measured)[name].isna() & pd.DataFrame(reference)[name].notna()).sum()
            ),
        }
        for name, column in difference.items()
        if column.count()
    }


def clip(polygon: np.ndarray, size_mm: float, step: float = 0.1) -> contours.Contour | None:
    """Return the part of a drawn outline that is on the film, with a vertex every 0.1 mm."""
    corners = np.concatenate([polygon, polygon[:1]]).astype(float)
    parts = []
    for start, end in itertools.pairwise(corners):
        count = max(1, int(np.linalg.norm(end - start) / step))
        parts.append(start + (end - start) * (np.arange(count) / count)[:, None])
    points = np.concatenate(parts)
    inside = ((points >= 0) & (points <= size_mm)).all(axis=1)
    if not inside.any():
        return None
    is_cut = inside & ~(np.roll(inside, 1) & np.roll(inside, -1))
    return contours.Contour(points[inside], is_cut[inside])


def exact(cases: int, fov: float) -> dict[str, Any]:
    """Measure exact masks in pixels of several sizes, and the drawings themselves."""
    outlines = jax.jit(lambda key, knee: case.draw_contours(key, knee, size=(512, 512), fov_mm=fov))
    drawings = [outlines(jax.random.key(SEED + number), number % 2) for number in range(cases)]
    reference = [
        values(
            measurements.measure_knee(
                Knee({name: clip(np.asarray(getattr(one, name)), fov) for name in measurements.BONES})
            )
        )
        for one in drawings
    ]
    result = {}
    for pixel in PIXELS:
        side = round(fov / pixel)
        places = (np.arange(side) + 0.5) * (fov / side)

        def draw(drawing: shapes.Contours, places: np.ndarray = places) -> jax.Array:
            return render.label_map(
                shapes.Contours(*(shapes.signed_distance(bone, places, places) for bone in drawing)),
                overlaps=True,
            )

        label = jax.jit(draw)
        masks = [np.asarray(label(one)) for one in drawings]
        measured = [
            values(measurements.measure(measurements.whole_bones(mask, OVERLAPS), (fov / side, fov / side)))
            for mask in masks
        ]
        result[f"{pixel} mm"] = errors(measured, reference)
    return result


def on_grid(predictor: Any, image: np.ndarray, spacing: tuple[float, float]) -> dict[str, np.ndarray]:
    """Return the probabilities of whole bones on the part of the working grid that a film covers, and its spacing."""
    placement = grid.place_on_grid(image.shape[:2], predictor.grid[:2], predictor.fit)
    probabilities = predictor.probabilities([image], merged=False)[0][placement.rows, placement.columns]
    pixel = tuple(
        mm * pixels / cells for mm, pixels, cells in zip(spacing, image.shape, placement.size, strict=True)
    )
    return {"bones": measurements.whole_bones(probabilities, OVERLAPS), "spacing": pixel}


def network(cases: int, fov: float, checkpoint: str) -> dict[str, Any]:
    """Measure a network's probabilities on its working grid, against exact masks."""
    predictor = real_bones.load(checkpoint)
    draw = jax.jit(lambda key, knee: case.draw_case(key, knee, size=(512, 512), fov_mm=fov, overlaps=True))
    measured, reference = [], []
    for number in range(cases):
        film = draw(jax.random.key(SEED + number), number % 2)
        spacing = (fov / 512, fov / 512)
        on = on_grid(predictor, np.asarray(film.image), spacing)
        measured.append(values(measurements.measure(on["bones"], on["spacing"])))
        bones = measurements.whole_bones(np.asarray(film.exact), OVERLAPS)
        reference.append(values(measurements.measure(bones, spacing)))
    return errors(measured, reference)


def load_script(path: Path) -> Any:
    """Import the script that projects bones."""
    spec = importlib.util.spec_from_file_location("project_bones", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_bones(folder: Path, script: Path, films: int, checkpoint: str) -> dict[str, Any]:
    """Measure silhouettes of real bones, and a network's masks of their films."""
    module, predictor, size = load_script(script), real_bones.load(checkpoint), 384
    measured: dict[str, list[Values]] = {"silhouettes": [], "network": [], "finer": []}
    reasons: dict[str, int] = {}
    rng = np.random.default_rng(SEED)
    for path in sorted(folder.glob("*.npz")):
        arrays = np.load(path)
        surfaces = {
            name: (arrays[f"{name}_vertices_mm"].astype(float), arrays[f"{name}_faces"])
            for name in module.LABELS
        }
        for _ in range(films):
            again = copy.deepcopy(rng)
            image, _, outlines, pixel = module.film(surfaces, rng, size)
            _, _, finer, fine_pixel = module.film(surfaces, again, FINER * size)
            on = on_grid(predictor, image, (pixel, pixel))
            # No fibula shows the side, which is the same in all three.
            results = {
                "silhouettes": measurements.measure(outlines, (pixel, pixel), "left"),
                "finer": measurements.measure(finer, (fine_pixel, fine_pixel), "left"),
                "network": measurements.measure(
                    {name: on["bones"][name] for name in outlines}, on["spacing"], "left"
                ),
            }
            for name, result in results.items():
                measured[name].append(values(result))
            for name in ("jsw_min_medial", "jsw_min_lateral"):
                if reason := results["silhouettes"][name].reason:
                    reasons[reason] = reasons.get(reason, 0) + 1
    return {
        "films": len(measured["finer"]),
        "silhouettes against finer ones": errors(measured["silhouettes"], measured["finer"]),
        "network against silhouettes": errors(measured["network"], measured["silhouettes"]),
        "refused compartments": reasons,
    }


def speed(cases: int) -> dict[str, Any]:
    """Time all measurements of masks of 512 x 512, in threads as an audit takes them."""
    draw = jax.jit(lambda key, knee: case.draw_case(key, knee, size=(512, 512), fov_mm=140.0, overlaps=True))
    masks = [np.asarray(draw(jax.random.key(SEED + n), n % 2).exact) for n in range(min(cases, 50))]

    def one(mask: np.ndarray) -> None:
        measurements.measure(measurements.whole_bones(mask, OVERLAPS), (140 / 512, 140 / 512))

    todo = list(itertools.islice(itertools.cycle(masks), 1000))
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, todo))
    return {"knees": len(todo), "seconds": time.perf_counter() - start, "threads": os.cpu_count()}


def bias(cases: int, regroupings: int = 400) -> dict[str, Any]:
    """Audit a planted error of 0.5 mm in one group, and random groups without any."""
    draw = jax.jit(
        lambda key, knee, strength: case.draw_case(
            key, knee, case.Bias(annotation=strength), size=(512, 512), overlaps=True
        )
    )
    spacing, rows = (140 / 512, 140 / 512), []
    for number in range(cases):
        group = "b" if number % 2 else "a"
        film = draw(
            jax.random.key(SEED + number), number % 4 // 2, 0.5 / case.ANNOTATION_MM if group == "b" else 0.0
        )
        truth, annotated = (
            values(measurements.measure(measurements.whole_bones(np.asarray(mask), OVERLAPS), spacing))
            for mask in (film.exact, film.label)
        )
        rows.append((f"p{number}", group, truth["jsw_min_medial"], annotated["jsw_min_medial"]))
    frame = pd.DataFrame(rows, columns=["patient_id", "group", "reference", "predicted"])
    frame["group"] = pd.Categorical(frame["group"], ["a", "b"])
    of_wide = frame[frame["reference"] >= 3]
    result = measurement_errors(of_wide, ["group"], unit="mm", margin=0.2)
    planted = result.groups["group=b"].bias
    rng = np.random.default_rng(SEED)
    noise = frame["reference"] + rng.normal(0, 0.3, len(frame)) * (1 + 0.1 * frame["reference"])
    unbiased = frame.assign(predicted=noise)
    rejected = 0
    for number in range(regroupings):
        groups = rng.permutation(np.resize(["a", "b"], len(frame)))
        regrouped = unbiased.assign(group=pd.Categorical(groups, ["a", "b"]))
        p = measurement_errors(regrouped, ["group"], unit="mm", draws=999, seed=number).attributes["group"].p
        rejected += bool(p is not None and p < 0.05)
    return {
        "patients": len(of_wide),
        "bias": planted.estimate,
        "interval": planted.interval,
        "p": result.attributes["group"].p,
        "regroupings": regroupings,
        "rejected": rejected / regroupings,
    }


def size(cases: int) -> dict[str, Any]:
    """Compare two groups with the same error of 0.5 mm, of which one has bones a tenth smaller.

    The smaller bones are drawings in a wider field of view, whose pixels count as those of the other group.
    """
    fov, scale, pixel = 140.0, 0.9, 140.0 / 512
    draw = {
        "a": jax.jit(partial(_too_wide, 0.5, fov)),
        "b": jax.jit(partial(_too_wide, 0.5 / scale, fov / scale)),
    }
    rows = []
    for number in range(cases):
        group = "b" if number % 2 else "a"
        exact, annotated = draw[group](jax.random.key(SEED + number), number % 4 // 2)
        truth, prediction = (
            measurements.whole_bones(np.asarray(mask), OVERLAPS) for mask in (exact, annotated)
        )
        dice = np.mean([real_bones.dice(prediction[bone], truth[bone]) for bone in ("femur", "tibia")])
        widths = [values(measurements.measure(bones, (pixel, pixel))) for bones in (truth, prediction)]
        rows.append(
            (f"p{number}", group, *(one[name] for name in ("jsw_min_medial", "fta") for one in widths), dice)
        )
    columns = ["patient_id", "group", "jsw", "jsw_predicted", "fta", "fta_predicted", "dice"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["group"] = pd.Categorical(frame["group"], ["a", "b"])
    # Knees of 3 mm and more: an error closes narrower ones.
    wide = frame[frame["jsw"] >= 3]
    of_groups = {
        "dice": frame.assign(reference=0.0, predicted=frame["dice"]),
        "jsw_min_medial": wide.assign(reference=wide["jsw"], predicted=wide["jsw_predicted"]),
        "fta": frame.assign(reference=frame["fta"], predicted=frame["fta_predicted"]),
    }
    result = {}
    for name, table in of_groups.items():
        compared = measurement_errors(table, ["group"], unit="").attributes["group"]
        (pair,) = compared.pairs
        result[name] = {
            "difference": pair.bias.estimate,
            "interval": pair.bias.interval,
            "p": compared.p,
            "patients": pair.bias.n,
        }
    return result


def _too_wide(mm: float, fov: float, key: jax.Array, knee: int) -> tuple[jax.Array, jax.Array]:
    """Return the exact mask of a knee, and one whose bones are drawn too wide by some mm."""
    film = case.draw_case(
        key,
        knee,
        case.Bias(annotation=mm / case.ANNOTATION_MM),
        size=(512, 512),
        fov_mm=fov,
        overlaps=True,
    )
    return film.exact, film.label


def main() -> None:
    """Print and write the sections that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bones", type=Path, nargs="?")
    parser.add_argument("script", type=Path, nargs="?")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--films", type=int, default=2, help="of each real knee")
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument(
        "--sections", nargs="+", default=["exact", "network", "bones", "speed", "bias", "size"]
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "measurements.json")
    options = parser.parse_args()
    sections: dict[str, Callable[[], Any]] = {
        "exact": lambda: exact(options.cases, 180.0),
        "network": lambda: {
            f"{fov:g} mm": network(options.cases, fov, options.checkpoint) for fov in (140.0, 180.0)
        },
        "bones": lambda: of_bones(options.bones, options.script, options.films, options.checkpoint),
        "speed": lambda: speed(options.cases),
        "bias": lambda: bias(10 * options.cases),
        "size": lambda: size(4 * options.cases),
    }
    results: dict[str, Any] = {}
    for name in options.sections:
        if name == "bones" and not options.bones:
            print("bones: left out, since no folder is given")
            continue
        results[name] = sections[name]()
        print(name, results[name], flush=True)
    units = {name: definition.unit for name, definition in MEASUREMENTS.items()}
    atomic.write_json(options.out, conditions() | {"cases": options.cases, "units": units} | results)


if __name__ == "__main__":
    main()
