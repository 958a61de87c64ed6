"""Segment images of any size, with one network or the mean of several."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from kneefair_jax import anatomy, models, weights
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.models.registry import inference_bytes
from kneefair_jax.predict import cleaning, ensembles, grid, quality
from kneefair_jax.predict.prediction import Outline, Prediction
from kneefair_jax.predict.quality import Calibration
from kneefair_jax.runtime import memory

# A smaller batch is padded to this size, except a single image.
_MIN_BATCH = 8


class Predictor:
    """Segments images; `load` makes it.

    Attributes:
        structures: names of labels 1, 2, ... of the masks.
        grid: (H, W, C) of the working grid.
        fit: how images are placed on the grid, "stretch" or "pad".
        groups: names of the groups that have a network of their own; empty if every network serves all groups.
        whole_bones: the bones of which the network gives outlines (`load(outlines=True)`); empty for a network without
            overlap classes.
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
        classes, self.grid = ensembles.shared_classes_and_grid(ensemble)
        self.fit = ensembles.fit(ensemble, fit)
        bones = anatomy.whole_bones(classes)
        if (outlines or in_front) and not bones:
            raise InputError(
                f"{'--outlines' if outlines else '--in-front'}: this network has no overlap classes, it segments "
                f"{', '.join(classes)}; leave it out, or use a network with them, such as phantom"
            )
        self._classes, self._raw = classes, raw
        self.whole_bones = tuple(bones)
        # Where two bones overlap, a mask shows the one in front.
        structures = tuple(name for name in classes if name not in anatomy.OVERLAPS)
        self.structures = _with_whole_femur(structures) if whole_femur else structures
        # The probability of a union is the sum over its parts: exact, as a pixel has one label.
        label_of_class = anatomy.translation(classes, self.structures, in_front)
        self._merge: np.ndarray = np.eye(len(self.structures) + 1, dtype=np.float32)[label_of_class]
        self._bones = dict(zip(bones, anatomy.membership(classes, bones), strict=True))
        self._outlines = outlines
        # Predicted Dice and warnings refer to the network's own structures, whatever the options merge or cover.
        self._own_structures = structures
        own_labels = anatomy.translation(classes, structures)
        self._own_merge: np.ndarray = np.eye(len(structures) + 1, dtype=np.float32)[own_labels]
        members = {name: own_labels == value for value, name in enumerate(structures, start=1)} | self._bones
        # The name under which the mask of an output was calibrated, if it was: the same classes belong to both.
        self._calibrated_names = {
            name: next((other for other, row in members.items() if np.array_equal(row, is_member)), "")
            for name, is_member in [
                *((name, label_of_class == value) for value, name in enumerate(self.structures, start=1)),
                *self._outlined().items(),
            ]
        }
        self._swap = jnp.asarray(anatomy.flip_table(classes)) if flip else None
        self.groups = ensembles.shared_groups(ensemble)
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
        return [prediction.mask for prediction in self.predict(images, group, warn=False)]

    def predict(
        self, images: Sequence[Any] | np.ndarray, group: str | None = None, *, warn: bool = True
    ) -> list[Prediction]:
        """Segment images like a call; return each mask with its confidence, predicted Dice and, if `warn`, warnings."""
        return self.segment(grid.as_pictures(images), group, warn=warn)

    def segment(
        self, images: Sequence[np.ndarray], group: str | None = None, *, warn: bool = True
    ) -> list[Prediction]:
        """Segment u8[H, W, 1 or 3] like `predict`, without checks of the pixels."""
        if not images:
            return []
        size = self._padded_size(len(images))
        return [
            self._prediction(image, self._without_border(probabilities, image), group, size, warn=warn)
            for batch in itertools.batched(images, self._batch_size)
            for image, probabilities in zip(batch, self._on_grid(batch, group, size), strict=True)
        ]

    def probabilities(
        self, images: Sequence[Any] | np.ndarray, group: str | None = None, *, merged: bool = True
    ) -> np.ndarray:
        """Return f32[N, h, w, C] on the working grid, the mean of all networks.

        With `fit` "pad" the grid has a border outside the image (`grid.place_on_grid`).

        Args:
            images: as for a call.
            group: as for a call.
            merged: whether C are background and `structures`; otherwise the networks' own classes.
        """
        probabilities: np.ndarray = self._on_grid(grid.as_pictures(images), group)
        return probabilities @ self._merge if merged else probabilities

    def digest(self) -> str:
        """Return the SHA-256 of what determines the masks, in hex digits: networks, structures, options."""
        bones = {name: np.asarray(parts).tolist() for name, parts in self._outlined().items()}
        settings = [self.structures, self._merge.tolist(), bones, self.fit, self._swap is not None, self._raw]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for checkpoint in self._ensemble:
            for group, network in checkpoint.items():
                about = {
                    name: network.about.get(name) for name in ("network", "structures", "grid", "quality")
                }
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
        placement = grid.place_on_grid(image.shape[:2], (height, width), self.fit)
        full = np.broadcast_to(image, (*image.shape[:2], channels))
        return grid.resize_to_grid(full, (height, width), placement)

    def _outlined(self) -> dict[str, np.ndarray]:
        """Return the whole bones whose outlines predictions have, as the classes bool[C] of each."""
        return self._bones if self._outlines else {}

    def _calibration(self, group: str | None) -> Calibration | None:
        """Return the network's calibration; None if it has none, or for several networks."""
        if len(self._ensemble) > 1:
            return None
        fields = weights.select_group(self._ensemble[0], group).about.get("quality")
        return quality.read_calibration(fields) if fields else None

    def _without_border(self, probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the part of f32[h, w, C] on the working grid that an image covers."""
        placement = grid.place_on_grid(image.shape[:2], self.grid[:2], self.fit)
        return probabilities[placement.rows, placement.columns]

    def _prediction(
        self, image: np.ndarray, classes: np.ndarray, group: str | None, batch_size: int, *, warn: bool
    ) -> Prediction:
        """Return the prediction of an image.

        Args:
            image: u8[H, W, C].
            classes: f32[h, w, C], the probabilities of the networks' classes on the part of the grid that it covers.
            group: of the network.
            batch_size: a compiled one, for turned images.
            warn: whether to look for reasons for a warning.
        """
        probabilities, size = classes @ self._merge, image.shape[:2]
        label, highest = probabilities.argmax(-1), probabilities.max(-1)
        calibration = self._calibration(group)
        soft = self.soft_dice(classes) if calibration or warn else {}
        lines = calibration.lines if calibration else {}
        warnings = list(self._warnings(image, classes, soft, calibration, group, batch_size)) if warn else []
        predicted_dice = {
            name: quality.predicted_dice(soft[calibrated], lines[calibrated])
            for name, calibrated in self._calibrated_names.items()
            if calibrated in lines
        }
        # All but the masks and outlines refers to those before cleaning: a removed piece is a reason to look.
        cleaned = classes
        if not self._raw:
            cleaned = cleaning.clean_outlines(classes, self._classes)
            probabilities = cleaning.clean_labels(cleaned @ self._merge, self.structures)
        return Prediction(
            readers.labels_at(probabilities, size),
            {name: _mean(highest[label == value]) for value, name in enumerate(self.structures, start=1)},
            tuple(text for text, _ in warnings),
            {
                name: _outline(cleaned[..., members].sum(-1), classes[..., members].sum(-1), size)
                for name, members in self._outlined().items()
            },
            predicted_dice,
            frozenset(predicted_dice if any(is_odd for _, is_odd in warnings) else ()),
        )

    def soft_dice(self, classes: np.ndarray) -> dict[str, float]:
        """Return `quality.soft_dice` by structure of the network and whole bone.

        Args:
            classes: f32[h, w, C], the probabilities of the networks' classes.
        """
        probabilities = classes @ self._own_merge
        label = probabilities.argmax(-1)
        masks = {
            name: (label == value, probabilities[..., value])
            for value, name in enumerate(self._own_structures, start=1)
        }
        for name, members in self._bones.items():
            probability = classes[..., members].sum(-1)
            masks[name] = probability > 0.5, probability
        return {name: quality.soft_dice(*pair) for name, pair in masks.items()}

    def _warnings(
        self,
        image: np.ndarray,
        classes: np.ndarray,
        soft: Mapping[str, float],
        calibration: Calibration | None,
        group: str | None,
        batch_size: int,
    ) -> Iterator[tuple[str, bool]]:
        """Yield why a prediction should be looked at, and whether that is another reason than a low predicted Dice."""
        label = (classes @ self._own_merge).argmax(-1)
        if not label.any():
            yield "nothing found", True
            return
        masks = {name: label == value for value, name in enumerate(self._own_structures, start=1)}
        names = [name for name in self._own_structures if quality.OPTIONAL_BONE not in name]
        upright_total = quality.total(soft, names)
        is_suspect = (
            upright_total < calibration.total.suspect
            if calibration
            else quality.lacks_optional_bone(masks)  # a network without calibration has no other sign
        )

        def score(turned: Sequence[np.ndarray]) -> list[float]:
            pairs = zip(turned, self._on_grid(turned, group, batch_size), strict=True)
            return [
                quality.total(self.soft_dice(self._without_border(part, one)), names) for one, part in pairs
            ]

        if is_suspect and (warning := quality.turn_warning(image, upright_total, score)):
            yield warning, True
        if calibration:
            yield from ((text, False) for text in quality.dice_warnings(soft, calibration))
        if quality.is_own_mirror_image(image):
            yield "the image equals its mirror image; it may be composed of mirrored halves", True
        bones = {name: classes[..., members].sum(-1) > 0.5 for name, members in self._bones.items()}
        has_bones = any(mask.any() for mask in bones.values())
        yield from ((text, True) for text in quality.anatomy_warnings(bones if has_bones else masks))


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
