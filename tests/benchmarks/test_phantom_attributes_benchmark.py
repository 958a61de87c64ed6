"""Attributes that are drawn again are those of the films, and means by level."""

import functools

import jax
import numpy as np
import pandas as pd
import pytest

from benchmarks import phantom_attributes, phantom_scores


@pytest.mark.slow
def test_the_settings_are_those_of_the_films():
    varied, ends, fov = phantom_scores.SETS[phantom_attributes.SET]
    numbers = np.arange(8, dtype=np.int32)
    one = functools.partial(phantom_scores.draw, ends=ends, fov=fov, side=32, overlaps=True, varied=varied)
    films = jax.device_get(jax.jit(jax.vmap(one))(numbers))
    settings = phantom_attributes.settings_of(numbers)
    np.testing.assert_array_equal(settings["grade"], films.grade[:, 0])
    np.testing.assert_allclose(np.sqrt(films.spacing.prod(1)) * 32, settings["fov"], rtol=1e-5)
    aspect = np.log2(films.spacing[:, 1] / films.spacing[:, 0])
    np.testing.assert_allclose(aspect, settings["aspect"], atol=1e-4)


def test_means_by_level_by_hand():
    names = {
        "fov": 100.0,
        "width": 0.1,
        "turn": 0.0,
        "grade": 1,
        "patella": 1.0,
        "patella_faint": 0.0,
        "log_photons": 8,
    }
    names |= dict.fromkeys(("replacement", "fixation", "hardware", "crop", "clahe", "inverted"), -1.0)
    settings = pd.DataFrame([names, names, names | {"inverted": 0.2}])
    dice = pd.DataFrame({"whole tibia": [0.9, 0.8, 0.5]})
    levels = phantom_attributes.by_attribute(dice, settings)["inverted"]
    assert levels["no"]["films"] == 2 and levels["yes"]["films"] == 1
    np.testing.assert_allclose([levels["no"]["whole tibia"], levels["yes"]["whole tibia"]], [0.85, 0.5])
