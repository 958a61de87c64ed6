import jax
import numpy as np
import scipy.ndimage

from kneefair_jax.data import augment
from kneefair_jax.data.augment import Augmentation

HEIGHT, WIDTH = 100, 120
IMAGE = np.full((HEIGHT, WIDTH, 1), 0.4321, np.float32)
LABEL = np.ones((HEIGHT, WIDTH), np.int32)
KEYS = jax.random.split(jax.random.key(0), 200)


def draw_covers(**strength):
    """200 draws: the images, where they are not as they were, and the labels."""
    image, label = jax.vmap(lambda key: augment.cover(key, IMAGE, LABEL, Augmentation(**strength)))(KEYS)
    image = np.asarray(image)[..., 0]
    return image, image != IMAGE[..., 0], np.asarray(label)


def box(mask):
    (rows, columns), *more = scipy.ndimage.find_objects(mask.astype(int))
    assert not more
    return rows.start, rows.stop, columns.start, columns.stop


def test_a_cut_out_is_one_grey_rectangle_anywhere():
    image, hidden, label = draw_covers(cut_out=0.4)
    assert (label == 1).all()
    boxes = np.array([box(mask) for mask in hidden if mask.any()])
    assert len(boxes) > 190  # the rest are thinner than a pixel
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    np.testing.assert_array_equal(area, [mask.sum() for mask in hidden if mask.any()])
    assert all(len(np.unique(one[mask])) <= 1 for one, mask in zip(image, hidden, strict=True))
    assert 38 <= (boxes[:, 1] - boxes[:, 0]).max() <= 41 and 45 <= (boxes[:, 3] - boxes[:, 2]).max() <= 49
    assert (boxes[:, [0, 2]].min(0) <= 2).all() and (boxes[:, 1].max(), boxes[:, 3].max()) >= (98, 118)


def test_a_marker_is_a_bright_letter_now_and_then():
    image, hidden, label = draw_covers(marker=0.3)
    assert (label == 1).all()
    is_covered = hidden.any((1, 2))
    assert 0.2 < is_covered.mean() < 0.4
    assert image[hidden].min() >= 0.8
    filled = []
    for mask in hidden[is_covered]:
        top, bottom, left, right = box(mask)  # in one piece, and whole
        assert 5 <= bottom - top <= 15 and abs((bottom - top) / 7 * 5 - (right - left)) <= 2
        filled.append(mask[top:bottom, left:right].mean())
    # L fills 11 of 35 dots, R 18; a rectangle would fill all.
    assert 0.2 < min(filled) < 0.4 < max(filled) < 0.65


def test_a_letter_reads_as_it_is_written():
    for key in KEYS[:20]:
        letter, _ = augment._letter(key, (700, 700))
        top, bottom, left, right = box(np.asarray(letter))
        # The middle of each dot.
        y = top + (np.arange(7) + 0.5) * (bottom - top) / 7
        x = left + (np.arange(5) + 0.5) * (right - left) / 5
        dots = np.asarray(letter)[np.ix_(y.astype(int), x.astype(int))]
        assert tuple("".join(".#"[int(dot)] for dot in line) for line in dots) in augment.LETTERS


def test_no_bone_is_asked_for_beyond_the_collimated_field():
    image, hidden, label = draw_covers(collimation=0.4)
    np.testing.assert_array_equal(label, (~hidden).astype(int))
    is_covered = hidden.any((1, 2))
    assert 0.3 < is_covered.mean() < 0.5
    grey = np.array([np.unique(one[mask]) for one, mask in zip(image, hidden, strict=True) if mask.any()])
    assert grey.shape[1] == 1 and ((grey <= 0.1) | (grey >= 0.9)).all()
    assert 0.3 < (grey < 0.5).mean() < 0.7
    field = np.array([box(~mask) for mask in hidden[is_covered]])
    assert (field[:, 0].max() <= 25) and (field[:, 1].min() >= 75)
    assert (field[:, 2].max() <= 30) and (field[:, 3].min() >= 90)
    area = (field[:, 1] - field[:, 0]) * (field[:, 3] - field[:, 2])
    np.testing.assert_array_equal(area, (~hidden[is_covered]).sum((1, 2)))
