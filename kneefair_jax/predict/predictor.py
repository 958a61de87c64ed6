"""Segment images of any size, with one network or the mean of several."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from kneefair_jax import anatomy, models, weights
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.models.registry import inference_bytes
from kneefair_jax.predict import cleaning, films
from kneefair_jax.predict.prediction import Outline, Prediction, quality_warnings
from kneefair_jax.runtime import memory
from kneefair_jax.weights import FITS

# A smaller batch is padded to this size, except a single image.
_MIN_BATCH = 8


class Predictor:
    """Segments images; `load` makes it.

    Attributes:
        structures: names of labels 1, 2, ... of the masks.
        grid: (H, W, C) of the working grid.
        fit: how images are placed on the grid, "stretch" or "pad".
        groups: names of the groups that have a network of their own; empty if every network serves all groups.
    """

    def __init__(
        self,
        ensemble: Sequence[weights.NetworksByGroup],
        *,
        flip: bool = False,
        whole_femur: bool = False,
        outlines: bool = False,
        in_front: str = "",
        fit: str = "",
        raw: bool = False,
        batch_size: int = 8,
    ):
        classes, self.grid = _shared_classes_and_grid(ensemble)
        self.fit = _fit(ensemble, fit)
        bones = anatomy.whole_bones(classes)
        if (outlines or in_front) and not bones:
            raise InputError(
                f"{'--outlines' if outlines else '--in-front'}: this network has no overlap classes, it segments "
                f"{', '.join(classes)}; leave it out, or use a network with them, such as phantom-v2"
            )
        self._classes, self._raw = classes, raw
        # Where two bones overlap, a mask shows the one in front.
        structures = tuple(name for name in classes if name not in anatomy.OVERLAPS)
        self.structures = _with_whole_femur(structures) if whole_femur else structures
        # The probability of a union is the sum over its parts: exact, as a pixel has one label.
        label_of_class = anatomy.translation(classes, self.structures, in_front)
        self._merge: np.ndarray = np.eye(len(self.structures) + 1, dtype=np.float32)[label_of_class]
        self._bones = dict(zip(bones, anatomy.membership(classes, bones), strict=True)) if outlines else {}
        self._swap = jnp.asarray(anatomy.flip_table(classes)) if flip else None
        self.groups = _shared_groups(ensemble)
        self._ensemble = list(ensemble)
        self._batch_size = batch_size
        model = next(iter(ensemble[0].values())).model
        memory.require(
            batch_size * inference_bytes(model, self.grid),
            f"--batch-size {batch_size} on a grid of {self.grid[0]} x {self.grid[1]} pixels",
            "give a smaller --batch-size",
        )

    def __call__(self, images: Sequence[Any] | np.ndarray, group: str | None = None) -> list[np.ndarray]:
        """Segment images.

        Args:
            images: a list of [H, W], [H, W, 1] or [H, W, 3], u8, u16 or float, bone bright; sizes may differ.
            group: such as `sex=female`, for group-specific networks.

        Returns:
            u8[H, W], a mask for each.

        Raises:
            InputError: an element is no image, is too small, too large or blank, or the group has no network.
        """
        return [prediction.mask for prediction in self.predict(images, group)]

    def predict(self, images: Sequence[Any] | np.ndarray, group: str | None = None) -> list[Prediction]:
        """Segment images like a call; return each mask with its confidence and warning."""
        return self.segment(_as_pictures(images), group)

    def segment(self, images: Sequence[np.ndarray], group: str | None = None) -> list[Prediction]:
        """Segment u8[H, W, 1 or 3] like `predict`, without checks of the pixels."""
        if not images:
            return []
        size = self._padded_size(len(images))
        return [
            self._prediction(probabilities, image.shape[:2])
            for batch in itertools.batched(images, self._batch_size)
            for image, probabilities in zip(batch, self._on_grid(batch, group, size), strict=True)
        ]

    def probabilities(self, images: Sequence[Any] | np.ndarray, group: str | None = None) -> np.ndarray:
        """Return f32[N, h, w, C] on the working grid: background and each structure, the mean of all networks.

        With `fit` "pad" the grid has a border outside the image (`place_on_grid`).
        """
        probabilities: np.ndarray = self._on_grid(_as_pictures(images), group) @ self._merge
        return probabilities

    def digest(self) -> str:
        """Return the SHA-256 of what determines the masks, in hex digits: networks, structures, options."""
        bones = {name: np.asarray(parts).tolist() for name, parts in self._bones.items()}
        settings = [self.structures, self._merge.tolist(), bones, self.fit, self._swap is not None, self._raw]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for checkpoint in self._ensemble:
            for group, network in checkpoint.items():
                about = {name: network.about[name] for name in ("network", "structures", "grid")}
                tensors = traverse_util.flatten_dict(network.variables, sep="/")
                shapes = {name: (tensor.shape, str(tensor.dtype)) for name, tensor in tensors.items()}
                digest.update(json.dumps([group, about, shapes]).encode())
                for tensor in tensors.values():
                    digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def require_group(self, group: str | None) -> None:
        """Refuse a group without a network.

        Raises:
            InputError: the message lists the groups with a network.
        """
        for checkpoint in self._ensemble:
            weights.select_group(checkpoint, group)

    def _on_grid(self, images: Sequence[np.ndarray], group: str | None, size: int = 0) -> np.ndarray:
        """Return the probabilities of the networks' own classes for images, in batches of a size.

        A size of 0 is the padded size of all images.
        """
        networks = [weights.select_group(checkpoint, group) for checkpoint in self._ensemble]
        inputs = np.stack([self._input(image) for image in images])
        size = size or self._padded_size(len(inputs))
        batches = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            by_network = [_probabilities(n.model, n.variables, padded, self._swap) for n in networks]
            batches.append(np.mean(jax.device_get(by_network), axis=0)[: len(batch)])
        return np.concatenate(batches)

    def _padded_size(self, images: int) -> int:
        """Return the size of a batch: the next power of two, so that few sizes are compiled, or 1."""
        return 1 if images == 1 else min(self._batch_size, max(_MIN_BATCH, 1 << (images - 1).bit_length()))

    def _input(self, image: np.ndarray) -> np.ndarray:
        height, width, channels = self.grid
        if channels == 1:
            image = readers.to_gray(image)
        placement = place_on_grid(image.shape[:2], (height, width), self.fit)
        full = np.broadcast_to(image, (*image.shape[:2], channels))
        return resize_to_grid(full, (height, width), placement)

    def _prediction(self, classes: np.ndarray, size: tuple[int, int]) -> Prediction:
        """Return the prediction of an image of a size, by the probabilities f32[h, w, C] of the networks' classes."""
        placement = place_on_grid(size, self.grid[:2], self.fit)
        classes = classes[placement.rows, placement.columns]
        probabilities = classes @ self._merge
        label, highest = probabilities.argmax(-1), probabilities.max(-1)
        confidence = {
            name: _mean(highest[label == value]) for value, name in enumerate(self.structures, start=1)
        }
        warnings = quality_warnings(label, self.structures)
        # Confidence and warnings refer to the mask before cleaning: two knees are pieces, and a removed piece is a
        # reason to look.
        cleaned = classes
        if not self._raw:
            cleaned = cleaning.clean_outlines(classes, self._classes)
            probabilities = cleaning.clean_labels(cleaned @ self._merge, self.structures)
        return Prediction(
            readers.labels_at(probabilities, size),
            confidence,
            _mean(highest[label > 0]),
            warnings,
            {
                name: _outline(cleaned[..., members].sum(-1), classes[..., members].sum(-1), size)
                for name, members in self._bones.items()
            },
        )


class Placement(NamedTuple):
    """The rows and columns of a working grid that a film covers."""

    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the grid."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def place_on_grid(size: tuple[int, int], grid: tuple[int, int], fit: str) -> Placement:
    """Place a film on a working grid.

    Args:
        size: (H, W) of the film; its pixels count as square.
        grid: (h, w).
        fit: of `weights.FITS`: "stretch" covers the grid whatever the film's shape, "pad" keeps the aspect
            ratio, to a pixel of the grid, and centers the film.
    """
    if fit == "stretch":
        return Placement(slice(0, grid[0]), slice(0, grid[1]))
    scale = min(grid[0] / size[0], grid[1] / size[1])
    spans = []
    for length, cells in zip(size, grid, strict=True):
        extent = min(cells, max(1, round(scale * length)))
        start = (cells - extent) // 2
        spans.append(slice(start, start + extent))
    return Placement(*spans)


def resize_to_grid(image: np.ndarray, grid: tuple[int, int], placement: Placement) -> np.ndarray:
    """Resize a film u8[H, W, C] to its place on the grid u8[h, w, C]; the rest is black, as a collimated border."""
    small = readers.resize_image(image, placement.size)
    if placement.size == grid:
        return small
    padded = np.zeros((*grid, image.shape[2]), np.uint8)
    padded[placement.rows, placement.columns] = small
    return padded


def _shared_classes_and_grid(
    ensemble: Sequence[weights.NetworksByGroup],
) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """Return the structures and the working grid of all networks.

    Raises:
        InputError: the networks differ in one of them.
    """
    abouts = [network.about for checkpoint in ensemble for network in checkpoint.values()]
    pairs = [(tuple(about["structures"]), tuple(about["grid"])) for about in abouts]
    if len(set(pairs)) > 1:
        raise InputError("these networks differ in structures or working grid; an ensemble shares both")
    return pairs[0]


def _fit(ensemble: Sequence[weights.NetworksByGroup], fit: str) -> str:
    """Return how images are placed on the grid: as stated, or else as the networks' descriptions say."""
    fits = {network.about.get("fit", FITS[0]) for checkpoint in ensemble for network in checkpoint.values()}
    if not fit and len(fits) > 1:
        raise InputError(f"these networks differ in --fit ({', '.join(sorted(fits))}); give one")
    if fit not in ("", *FITS):
        raise InputError(f"fit={fit!r}: give one of {', '.join(FITS)}")
    return fit or str(fits.pop())


def _shared_groups(ensemble: Sequence[weights.NetworksByGroup]) -> tuple[str, ...]:
    """Return the groups for which every group-specific checkpoint has a network, in the order of the first one."""
    names = [[group for group in checkpoint if group] for checkpoint in ensemble if None not in checkpoint]
    return tuple(group for group in (names[0] if names else ()) if all(group in more for more in names))


def load(
    *names: str | Path,
    flip: bool = False,
    whole_femur: bool = False,
    outlines: bool = False,
    in_front: str = "",
    fit: str = "",
    raw: bool = False,
    batch_size: int = 8,
) -> Predictor:
    """Load networks; a predictor averages several.

    Args:
        names: of shipped networks ("phantom"), `.safetensors` files or exported run directories.
        flip: test-time augmentation: whether to average with the flipped image, with swapped sides; twice the time.
        whole_femur: whether femur and patella are one structure, as in many masks; with overlap classes the whole
            femur, without the part of the patella beside it.
        outlines: whether predictions have the whole bones, for networks with overlap classes.
        in_front: "fibula" for masks with the fibula over the tibia where the two overlap, for networks with overlap
            classes; by default the tibia, and the patella over the femur, as in the scheme `knee`.
        fit: "stretch" resizes images to the working grid whatever their shape, "pad" keeps their aspect ratio; ""
            follows the networks' descriptions.
        raw: whether masks and outlines keep small pieces and holes of bones (`cleaning.clean`).
        batch_size: of several images; a single image is a batch of its own.

    Raises:
        InputError: there is no such network, or the networks cannot be averaged.
    """
    if not names or batch_size < 1:
        raise InputError("give the name of a network, and a batch size of 1 or more")
    if wrong := [name for name in names if not isinstance(name, (str, Path))]:
        raise InputError(
            f"{wrong[0]!r} is no name of a network; give names one by one: load('phantom', 'runs/mine')"
        )
    return Predictor(
        [weights.load_by_group(name) for name in names],
        flip=flip,
        whole_femur=whole_femur,
        outlines=outlines,
        in_front=in_front,
        fit=fit,
        raw=raw,
        batch_size=batch_size,
    )


def as_uint8(image: Any) -> np.ndarray:
    """Convert an image of any number type to u8[H, W, 1 or 3].

    Raises:
        InputError: it is no image, or its pixels are not finite.
    """
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size or array.dtype.kind not in "buif":
        raise InputError(
            f"an array of shape {np.shape(image)} and type {array.dtype} is no image; give numbers, [H, W] or [H, W, 3]"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return readers.to_uint8(array)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError("it holds pixels that are NaN, infinite or beyond float32")
    return readers.to_uint8(array)


def _as_pictures(images: Sequence[Any] | np.ndarray) -> list[np.ndarray]:
    """Convert each image to u8[H, W, 1 or 3], and refuse what the command line refuses of files."""
    shape = np.shape(images) if isinstance(images, np.ndarray) else ()
    if isinstance(images, (str, Path)) or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        raise InputError(
            "give a list of images, each an array: predictor([image]); the command line takes files"
        )
    pictures = []
    for index, image in enumerate(images):
        try:
            pictures.append(as_uint8(image))
            films.require_picture(readers.to_gray(pictures[-1]))
        except InputError as error:
            raise InputError(f"images[{index}]: {error}") from error
    return pictures


def _with_whole_femur(structures: tuple[str, ...]) -> tuple[str, ...]:
    union, parts = "whole femur", ("femur", "patella")
    if not set(parts) <= set(structures):
        raise InputError(f"{union}: the network segments {', '.join(structures)}, not {' and '.join(parts)}")
    return (union, *(name for name in structures if name not in parts))


def _outline(cleaned: np.ndarray, probability: np.ndarray, size: tuple[int, int]) -> Outline:
    """Return a whole bone by its probability f32[h, w] after and before cleaning."""
    mask = readers.labels_at(np.stack([1 - cleaned, cleaned], axis=-1), size)
    return Outline(mask > 0, _mean(probability[probability > 0.5]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


@partial(jax.jit, static_argnums=0)
def _probabilities(model: nn.Module, variables: Any, image: jax.Array, swap: jax.Array | None) -> jax.Array:
    """Return the class probabilities f32[B, h, w, C] of u8[B, h, w, c].

    With `swap`, the table of labels under a left-right flip, they are the mean with those of the flipped image.
    """

    def predict(image: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.asarray(model.apply(variables, models.standardize(image))))

    if swap is None:
        return predict(image)
    return (predict(image) + predict(image[:, :, ::-1])[:, :, ::-1][..., swap]) / 2
