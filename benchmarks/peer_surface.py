"""MONAI's and surface-distance's surface metrics; other benchmarks run it with a Python that has both.

`python peer_surface.py FOLDER` reads each `<name>.npz` (prediction and truth u8[N, H, W], spacing f64[N, 2],
structures), writes `<name>_<library>.npy`, f64[N, S, 3] of HD95, ASSD and NSD at 1 mm, and prints as JSON the versions
and the seconds that each took. Splitting labels into masks is not counted.

    pip install monai==1.6.1 surface-distance==0.1 torch==2.13.0
"""

import importlib.metadata
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import surface_distance
import torch
from monai import metrics
from monai.metrics.utils import get_edge_surface_distance

np.Inf = np.inf  # which surface-distance 0.1 asks NumPy for when a mask is empty; NumPy 2 has it no more


def monai(prediction: np.ndarray, truth: np.ndarray, spacing: list[float]) -> np.ndarray:
    """Its three metrics, bool[S, H, W] -> f64[S, 3]; each looks for the surfaces anew."""
    p, t = (torch.from_numpy(masks[None].astype(np.float32)) for masks in (prediction, truth))
    options = {"include_background": True, "spacing": spacing}
    scores = [
        metrics.compute_hausdorff_distance(p, t, percentile=95, **options),
        metrics.compute_average_surface_distance(p, t, symmetric=True, **options),
        metrics.compute_surface_dice(p, t, [1.0] * len(prediction), **options),
    ]
    return torch.stack(scores, -1)[0].double().numpy()


def monai_once(prediction: np.ndarray, truth: np.ndarray, spacing: list[float]) -> np.ndarray:
    """The same from its distances, which are taken once; where there are none, NaN."""
    rows = []
    for p, t in zip(torch.from_numpy(prediction), torch.from_numpy(truth), strict=True):
        ends = get_edge_surface_distance(p, t, spacing=spacing, symmetric=True)[1]
        distances = torch.cat(ends)
        if not all(map(len, ends)):
            rows.append([np.nan] * 3)
            continue
        hd95 = max(float(torch.quantile(end, 0.95)) for end in ends)
        rows.append([hd95, float(distances.mean()), float((distances <= 1).double().mean())])
    return np.array(rows)


def deepmind(prediction: np.ndarray, truth: np.ndarray, spacing: list[float]) -> np.ndarray:
    """surface-distance; its two averages are pooled, by length as in its surface Dice."""
    rows = []
    for p, t in zip(prediction, truth, strict=True):
        surface = surface_distance.compute_surface_distances(t, p, spacing)
        lengths = np.concatenate([surface["surfel_areas_gt"], surface["surfel_areas_pred"]])
        distances = np.concatenate([surface["distances_gt_to_pred"], surface["distances_pred_to_gt"]])
        hd95 = surface_distance.compute_robust_hausdorff(surface, 95)
        nsd = surface_distance.compute_surface_dice_at_tolerance(surface, 1)
        rows.append([hd95, (distances * lengths).sum() / lengths.sum(), nsd])
    return np.array(rows, float)


LIBRARIES = {"monai": monai, "monai_once": monai_once, "surface-distance": deepmind}


def main() -> None:
    """Reads the folder, and which libraries to run unless all, from the command line."""
    folder, *chosen = sys.argv[1:]
    torch.set_num_threads(1)  # threads that wait for each other are slower by far where other programs run
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    seconds: dict[str, dict[str, float]] = {}
    for path in sorted(Path(folder).glob("*.npz")):
        arrays = np.load(path)
        prediction, truth, spacing = (arrays[name] for name in ("prediction", "truth", "spacing"))
        labels = np.arange(1, int(arrays["structures"]) + 1)[:, None, None]
        for library in chosen or LIBRARIES:
            scores, total = [], 0.0
            for p, t, mm in zip(prediction, truth, spacing.tolist(), strict=True):
                masks = p == labels, t == labels
                start = time.perf_counter()
                scores.append(LIBRARIES[library](*masks, mm))
                total += time.perf_counter() - start
            seconds.setdefault(path.stem, {})[library] = total
            np.save(path.with_name(f"{path.stem}_{library}.npy"), np.stack(scores))
    versions = {
        name: importlib.metadata.version(name)
        for name in ("monai", "surface-distance", "torch", "numpy", "scipy")
    }
    print(json.dumps({"versions": versions, "torch_threads": torch.get_num_threads(), "seconds": seconds}))


if __name__ == "__main__":
    main()
