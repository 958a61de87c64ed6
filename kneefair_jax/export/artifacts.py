"""Artifacts: files that segment films without this package, with a description beside each."""

import datetime
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

import kneefair_jax
from kneefair_jax import weights
from kneefair_jax.errors import InputError
from kneefair_jax.export import network_files, segmentation
from kneefair_jax.export.segmentation import Segmentation
from kneefair_jax.runtime import atomic, output_folder, written_files

FORMATS = {"jax": ".jaxexport", "onnx": ".onnx"}  # name -> ending of the file
# For how long JAX promises to read what `jax.export` wrote (docs.jax.dev, "Exporting and serializing").
JAX_DAYS = 183
INTERFACE = {
    "inputs": {
        "image": "float32 [batch, height, width]: the pixel values of gray films, bone bright, as stored in 8 or 16 "
        "bits or as float; no NaN",
        "is_eight_bit": "bool []: whether they are those of an 8-bit film, which enter as they are; others are scaled "
        "from their 0.5 to their 99.5 percentile",
    },
    "outputs": {
        "probabilities": "float32 [batch, h, w, 1 + structures]: on the working grid, background first; with the fit "
        "'pad' including the border",
        "mask": "uint8 [batch, height, width]: 0 background, 1, 2, ... the structures",
    },
    "limits": "The mask is that of `kneefair predict --raw` for arrays. Not done: reading of files (DICOM padding, "
    "display, orientation, inversion), cutting films of both knees, cleaning of masks, warnings, refusal of blank or "
    "tiny films. ONNX computes in float32 also where the network computes in bfloat16.",
}


def export(
    names: Sequence[str | Path],
    out: Path,
    name: str,
    kind: str,
    *,
    half: bool = False,
    fit: str = "",
    in_front: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Write networks as artifacts, with pre- and post-processing inside: one, or one for each group.

    Args:
        names: shipped networks, `.safetensors` files or finished runs, whose probabilities are averaged.
        out: folder of `{name}.onnx` and `{name}.onnx.json`, or of `{name}_0.onnx`, ... for networks of single groups.
        name: of the files.
        kind: of `FORMATS`.
        half: whether to store weights as float16.
        fit: of `weights.FITS`; "" follows the networks' descriptions.
        in_front: "tibia" or "fibula": which of the two a mask shows where they overlap.
        overwrite: whether to replace an earlier artifact of this name and format.

    Returns:
        The artifacts.

    Raises:
        InputError: a network cannot be read or averaged, a package is missing, or `out` holds files of this name.
    """
    network_files.check_name(name)
    write = _writer(kind)
    output_folder.require_writable(out, "--out")
    segmentations = segmentation.by_group(
        [weights.load_by_group(network_files.exported(name)) for name in names], fit, in_front
    )
    is_for_all_cases = segmentations[0].group is None
    stems = [name if is_for_all_cases else f"{name}_{number}" for number in range(len(segmentations))]
    files = [f"{stem}{FORMATS[kind]}" for stem in stems]
    list_kind = f"artifact-{kind}-{name}"  # no list of weights is called so
    output_folder.require_regular_files(out, (f"{name}*", written_files.manifest(list_kind)))
    targets = [target for file in files for target in (file, description(Path(file)).name)]
    written_files.require_new(out, list_kind, "--out", targets, overwrite=overwrite)
    with written_files.replacement(out, list_kind, "--out", overwrite=overwrite) as stage:
        for file, pipeline in zip(files, segmentations, strict=True):
            content = write(pipeline, half)
            atomic.write_bytes(stage / file, content)
            about = _describe(pipeline, kind, half) | {"sha256": hashlib.sha256(content).hexdigest()}
            atomic.write_json(description(stage / file), about)
    return [out / file for file in files]


def description(path: Path) -> Path:
    """Return the description of an exported file: `model.json` of weights, `model.onnx.json` of an artifact."""
    return path.with_suffix(".json") if path.suffix == weights.SUFFIX else path.with_name(f"{path.name}.json")


def _writer(kind: str) -> Callable[[Segmentation, bool], bytes]:
    """Return the function that makes the content of a file.

    Raises:
        InputError: the package that it needs is not installed.
    """
    if kind == "jax":
        from kneefair_jax.export import jax_format

        return jax_format.program
    try:
        from kneefair_jax.export import onnx_format
    except ModuleNotFoundError as error:
        raise InputError(
            f"--format onnx: the package {error.name} is not installed; pip install '.[onnx]' in a clone brings it"
        ) from error

    def write(pipeline: Segmentation, half: bool) -> bytes:
        model = onnx_format.model(pipeline, half)
        for key, value in _describe(pipeline, kind, half).items():
            model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
        return bytes(model.SerializeToString())

    return write


def _describe(pipeline: Segmentation, kind: str, half: bool) -> dict[str, Any]:
    """Return the description beside an artifact."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    about: dict[str, Any] = {
        "format": kind,
        **INTERFACE,
        "structures": pipeline.structures,
        "grid": pipeline.grid,
        "fit": pipeline.fit,
        "group": pipeline.group,
        "weights": "float16" if half else "float32",
        "networks": [
            {
                key: network.about.get(key)
                for key in ("network", "structures", "step", "dice", "dice_external")
            }
            for network in pipeline.networks
        ],
        "created": today.isoformat(),
        "kneefair_jax": kneefair_jax.__version__,
    }
    if kind == "jax":
        from kneefair_jax.export import jax_format

        expires = today + datetime.timedelta(days=JAX_DAYS)
        about |= {"jax": jax.__version__, "platforms": jax_format.PLATFORMS, "expires": expires.isoformat()}
    return about
