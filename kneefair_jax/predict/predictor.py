"""Images of any size -> masks of the same, by one network or the mean of several."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from kneefair_jax import anatomy, models
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.models.memory import inference_bytes
from kneefair_jax.predict import films, placement, plausibility
from kneefair_jax.runtime import memory
from kneefair_jax.weights import checkpoints
from kneefair_jax.weights.checkpoints import Checkpoint
from kneefair_jax.weights.description import FITS

# Of the weights that ship: 32 clinical phantoms have 0.987 or more, of 32 as wide as in training 95 % have 0.945 or
# more; 48 chest films (JSRT) and 32 images of noise, white and smooth, have at most 0.935. For other weights a guess.
UNSURE = 0.94
# Fewer images than these are padded to as many, but for a single one.
_USUAL_BATCH = 8


class Outline(NamedTuple):
    """The mask of a whole bone, parts behind other bones included.

    Attributes:
        mask: bool[H, W], where the bone's probability, the sum over its classes, is above 0.5.
        confidence: the mean of that probability over these pixels of the working grid; NaN where there are none.
    """

    mask: np.ndarray
    confidence: float


class Prediction(NamedTuple):
    """What is said of one image.

    Attributes:
        mask: u8[H, W], of the image's size.
        confidence: by structure, the mean probability of the chosen class over its pixels of the working grid; NaN
            where the structure is absent.
        overall: the same over all structures; NaN where none is found.
        doubts: what in the mask is no knee's, by `plausibility.doubts`.
        outlines: the whole bones, which overlap, by name; empty unless asked for.
    """

    mask: np.ndarray
    confidence: dict[str, float]
    overall: float
    doubts: tuple[str, ...] = ()
    outlines: Mapping[str, Outline] = MappingProxyType({})

    @property
    def warning(self) -> str:
        """Why not to trust it: nothing found, an overall confidence below 0.94, what is no knee's; else empty."""
        if np.isnan(self.overall):
            return "; ".join(("nothing found", *self.doubts))
        if self.overall < UNSURE:
            unlike = f"unlike the training images: confidence {self.overall:.3f} is below {UNSURE}"
            return "; ".join((unlike, *self.doubts))
        return "; ".join(self.doubts)


class Predictor:
    """Segments images; made by `load`.

    Attributes:
        structures: names of labels 1, 2, ... of the masks.
        grid: (H, W, C), what images are resized to.
        fit: how: "stretch" or "pad".
        groups: names of those that have a network of their own; empty where every network is for everybody.
    """

    def __init__(
        self,
        ensemble: Sequence[Checkpoint],
        *,
        flip: bool = False,
        whole_femur: bool = False,
        outlines: bool = False,
        in_front: str = "",
        fit: str = "",
        batch_size: int = 8,
    ):
        abouts = [network.about for checkpoint in ensemble for network in checkpoint.values()]
        its_own = tuple(abouts[0]["structures"])
        self.grid = tuple(abouts[0]["grid"])
        if any((tuple(a["structures"]), tuple(a["grid"])) != (its_own, self.grid) for a in abouts):
            raise InputError("these networks differ in structures or working grid; an ensemble shares both")
        fits = {a.get("fit", FITS[0]) for a in abouts}
        if not fit and len(fits) > 1:
            raise InputError(f"these networks differ in --fit ({', '.join(sorted(fits))}); give one")
        if fit not in ("", *FITS):
            raise InputError(f"fit={fit!r}: give one of {', '.join(FITS)}")
        self.fit = fit or fits.pop()
        bones = anatomy.whole_bones(its_own)
        if (outlines or in_front) and not bones:
            raise InputError(
                f"{'--outlines' if outlines else '--in-front'}: this network has no overlap classes, it segments "
                f"{', '.join(its_own)}; leave it out, or use a network with {' and '.join(anatomy.OVERLAPS)}"
            )
        # A mask shows the bone in front where two overlap.
        shown = tuple(name for name in its_own if name not in anatomy.OVERLAPS)
        self.structures = _with_whole_femur(shown) if whole_femur else shown
        # A union's probability is the sum of its parts': exact, as a pixel has one label.
        merged = anatomy.translation(its_own, self.structures, in_front)
        self._merge = np.eye(len(self.structures) + 1, dtype=np.float32)[merged]
        self._bones = dict(zip(bones, anatomy.membership(its_own, bones), strict=True)) if outlines else {}
        self._swap = jnp.asarray(anatomy.flip_table(its_own)) if flip else None
        named = [
            [group for group in checkpoint if group] for checkpoint in ensemble if None not in checkpoint
        ]
        self.groups = tuple(group for group in (named[0] if named else ()) if all(group in n for n in named))
        self._ensemble = list(ensemble)
        self._batch_size = batch_size
        model = next(iter(ensemble[0].values())).model
        memory.require(
            batch_size * inference_bytes(model, self.grid),
            f"--batch-size {batch_size} on a grid of {self.grid[0]} x {self.grid[1]} pixels",
            "give a smaller --batch-size",
        )

    def __call__(self, images: Sequence[Any] | np.ndarray, group: str | None = None) -> list[np.ndarray]:
        """Segments images.

        Args:
            images: a list of [H, W], [H, W, 1] or [H, W, 3], u8, u16 or float, bone bright; sizes may differ.
            group: `sex=female`, for networks that are each for one group.

        Returns:
            u8[H, W], a mask for each.

        Raises:
            InputError: an image is none, too small, too large or blank, or there is no network for the group.
        """
        return [prediction.mask for prediction in self.predict(images, group)]

    def predict(self, images: Sequence[Any] | np.ndarray, group: str | None = None) -> list[Prediction]:
        """As a call, but each with mask, confidence and warning; arguments and errors are the same."""
        return self.segment(_ready(images), group)

    def segment(self, images: Sequence[np.ndarray], group: str | None = None) -> list[Prediction]:
        """As `predict`, of u8[H, W, 1 or 3] that are known to be pictures, or blank for a reason."""
        if not images:
            return []
        size = self._padded_size(len(images))
        return [
            self._said(probabilities, image.shape[:2])
            for batch in itertools.batched(images, self._batch_size)
            for image, probabilities in zip(batch, self._on_grid(batch, group, size), strict=True)
        ]

    def probabilities(self, images: Sequence[Any] | np.ndarray, group: str | None = None) -> np.ndarray:
        """f32[N, h, w, C] on the working grid: of background and each structure, the mean of all networks.

        With `fit` "pad" the grid has a border that is not of the image (`placement.place`).
        """
        return self._on_grid(_ready(images), group) @ self._merge

    def digest(self) -> str:
        """Return the SHA-256 of what determines the masks, in hex digits: networks, structures, fit, flips."""
        bones = {name: np.asarray(parts).tolist() for name, parts in self._bones.items()}
        settings = [self.structures, self._merge.tolist(), bones, self.fit, self._swap is not None]
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
        """Refuses a group that there is no network for.

        Raises:
            InputError: with the groups there are.
        """
        for checkpoint in self._ensemble:
            checkpoints.of_group(checkpoint, group)

    def _on_grid(self, images: Sequence[np.ndarray], group: str | None, size: int = 0) -> np.ndarray:
        """The probabilities of images, by the networks' own classes, in batches of a size.

        A size of 0 is that of as many images.
        """
        networks = [checkpoints.of_group(checkpoint, group) for checkpoint in self._ensemble]
        inputs = np.stack([self._input(image) for image in images])
        size = size or self._padded_size(len(inputs))
        parts = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            each = [_probabilities(n.model, n.variables, padded, self._swap) for n in networks]
            parts.append(np.mean(jax.device_get(each), axis=0)[: len(batch)])
        return np.concatenate(parts)

    def _padded_size(self, images: int) -> int:
        """Return the size of a batch: the next power of two, so that few sizes are compiled, or 1."""
        return 1 if images == 1 else min(self._batch_size, max(_USUAL_BATCH, 1 << (images - 1).bit_length()))

    def _input(self, image: np.ndarray) -> np.ndarray:
        height, width, channels = self.grid
        if channels == 1:
            image = readers.to_gray(image)
        place = placement.place(image.shape[:2], (height, width), self.fit)
        full = np.broadcast_to(image, (*image.shape[:2], channels))
        return placement.on_grid(full, (height, width), place)

    def _said(self, classes: np.ndarray, size: tuple[int, int]) -> Prediction:
        place = placement.place(size, self.grid[:2], self.fit)
        classes = classes[place.rows, place.columns]
        probabilities = classes @ self._merge
        label, sure = probabilities.argmax(-1), probabilities.max(-1)
        confidence = {
            name: _mean(sure[label == value]) for value, name in enumerate(self.structures, start=1)
        }
        return Prediction(
            readers.labels_at(probabilities, size),
            confidence,
            _mean(sure[label > 0]),
            plausibility.doubts(label, self.structures),
            {name: _outline(classes[..., members].sum(-1), size) for name, members in self._bones.items()},
        )


def load(
    *names: str | Path,
    flip: bool = False,
    whole_femur: bool = False,
    outlines: bool = False,
    in_front: str = "",
    fit: str = "",
    batch_size: int = 8,
) -> Predictor:
    """A predictor by the networks of these names; several are averaged.

    Args:
        names: of networks that ship ("phantom"), `.safetensors` files or exported run folders.
        flip: whether each image is also seen flipped, its labels' sides swapped: twice the time.
        whole_femur: whether femur and patella are one structure, as many masks are drawn; with overlap classes the
            whole femur, without the part of the patella beside it.
        outlines: whether predictions have the whole bones, of networks with overlap classes.
        in_front: "fibula" for masks with the fibula over the tibia where the two overlap, of networks with overlap
            classes; by default the tibia, and the patella over the femur, as in the scheme `knee`.
        fit: "stretch" resizes images to the working grid whatever their shape, "pad" keeps their aspect ratio; "" does
            as the networks' descriptions say.
        batch_size: of many images; a single one is a batch of its own.

    Raises:
        InputError: there is no such network, or they cannot work together.
    """
    if not names or batch_size < 1:
        raise InputError("give the name of a network, and a batch size of 1 or more")
    if odd := [name for name in names if not isinstance(name, (str, Path))]:
        raise InputError(
            f"{odd[0]!r} is no name of a network; give names one by one: load('phantom', 'runs/mine')"
        )
    made = [checkpoints.find(name) for name in names]
    return Predictor(
        made,
        flip=flip,
        whole_femur=whole_femur,
        outlines=outlines,
        in_front=in_front,
        fit=fit,
        batch_size=batch_size,
    )


def as_uint8(image: Any) -> np.ndarray:
    """u8[H, W, 1 or 3] of an image in any number type.

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


def _ready(images: Sequence[Any] | np.ndarray) -> list[np.ndarray]:
    """u8[H, W, 1 or 3] of each; what the command line refuses of files is refused."""
    shape = np.shape(images) if isinstance(images, np.ndarray) else ()
    if isinstance(images, (str, Path)) or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        raise InputError(
            "give a list of images, each an array: predictor([image]); the command line takes files"
        )
    ready = []
    for place, image in enumerate(images):
        try:
            ready.append(as_uint8(image))
            films.require_picture(readers.to_gray(ready[-1]))
        except InputError as error:
            raise InputError(f"images[{place}]: {error}") from error
    return ready


def _with_whole_femur(structures: tuple[str, ...]) -> tuple[str, ...]:
    union, parts = "whole femur", ("femur", "patella")
    if not set(parts) <= set(structures):
        raise InputError(f"{union}: the network segments {', '.join(structures)}, not {' and '.join(parts)}")
    return (union, *(name for name in structures if name not in parts))


def _outline(probability: np.ndarray, size: tuple[int, int]) -> Outline:
    """A whole bone of its probability, f32[h, w]."""
    mask = readers.labels_at(np.stack([1 - probability, probability], axis=-1), size)
    return Outline(mask > 0, _mean(probability[probability > 0.5]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


@partial(jax.jit, static_argnums=0)
def _probabilities(model: nn.Module, variables: Any, image: jax.Array, swap: jax.Array | None) -> jax.Array:
    """u8[B, h, w, c] -> f32[B, h, w, C]; with a table of labels to swap, the mean with those of the flipped image."""

    def seen(image: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.asarray(model.apply(variables, models.standardise(image))))

    if swap is None:
        return seen(image)
    return (seen(image) + seen(image[:, :, ::-1])[:, :, ::-1][..., swap]) / 2
