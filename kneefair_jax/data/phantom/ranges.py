"""Ranges of all settings that differ between patients and films: clinical ranges, and far wider ones.

Clinical ranges give realistic radiographs. Wide ranges give unrealistic ones on purpose: a network trained on them must
rely on what all images share, and so generalizes to real films (domain randomization: Tobin et al. 2017, arXiv
1703.06907; for medical images SynthSeg, Billot et al. 2023).

A setting with a negative low end that stands for an object (`marker`) is absent when drawn below 0; a value above 0 is
its strength. One pair of ends thus sets how often the object occurs, and how strongly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Settings = dict[str, jax.Array]


class Range(NamedTuple):
    """The ends of a uniform distribution, clinical and wide."""

    clinical: tuple[float, float]
    wide: tuple[float, float]


# Settings that both knees of a patient share.
PATIENT: dict[str, Range] = {
    "mineral": Range((0.85, 1.2), (0.55, 1.7)),  # factor on the bones' attenuation
    "shaft_cortex": Range((3.0, 5.5), (1.0, 8.0)),  # thickness of a shaft's wall, mm
    "rim": Range((0.6, 0.9), (0.15, 2.5)),  # thickness of an epiphysis' cortex, mm
    "texture": Range((0.04, 0.14), (0.0, 0.4)),  # relative amplitude of the trabecular pattern
    "limb": Range((54, 84), (46, 130)),  # half width of the limb at the joint, mm
    "fat": Range((0.08, 0.25), (0.0, 0.4)),  # share of that half width that is fat under the skin
}

# The knee's pose and the bones' deviations from the template.
KNEE: dict[str, Range] = {
    "spread": Range((1.0, 1.0), (1.0, 2.6)),  # factor on the spread of every length
    "wobble_mm": Range((0.5, 0.5), (0.3, 1.6)),  # standard deviation of each control point
    "warp_mm": Range((0.0, 0.0), (0.0, 3.0)),  # amplitude of a smooth deformation of the whole knee
    "rotation": Range((-6, 6), (-20, 20)),  # about the limb's axis, degrees, outwards positive
    "flexion": Range((5, 20), (-5, 40)),  # degrees
    "severity": Range((0.0, 1.0), (0.0, 1.0)),  # place within the Kellgren-Lawrence grade
    "compartment": Range((-1.0, 0.4), (-1.0, 1.0)),  # the worn side: -1 medial, 1 lateral
}

# Where the knee lies on the film.
VIEW: dict[str, Range] = {
    "turn": Range((-3.5, 3.5), (-25, 25)),  # in the plane of the film, degrees
    "across": Range((-0.035, 0.035), (-0.2, 0.2)),  # shift of the joint from the center, of the width
    "down": Range((-0.05, 0.05), (-0.32, 0.32)),  # the same, of the height
    "aspect": Range((0.0, 0.0), (-0.5, 0.5)),  # log2 of the width's millimetres per pixel over the height's
}

FILM: dict[str, Range] = {
    # Attenuation of the patient.
    "femur": Range((1.0, 1.0), (0.6, 1.4)),  # factors on each bone's attenuation
    "tibia": Range((1.0, 1.0), (0.6, 1.4)),
    "fibula": Range((1.0, 1.0), (0.4, 1.4)),
    "patella": Range((0.9, 1.1), (0.05, 1.8)),
    "depth": Range((0.95, 1.05), (0.35, 1.6)),  # factor on the bones' depth along the beam
    "sclerosis": Range((0.7, 1.3), (0.0, 3.0)),  # factor on the dense bone under the cartilage
    "clouds": Range((0.5, 0.7), (0.0, 3.5)),  # coarse texture, relative to the fine
    "cloud_mm": Range((6.0, 8.0), (2.5, 30.0)),  # its scale
    "soft": Range((0.95, 1.05), (0.3, 1.8)),  # factor on the soft tissue's attenuation
    "limb_shift": Range((-5, 5), (-20, 20)),  # of the limb's axis from the joint's centre, mm
    # Exposure.
    "scatter": Range((0.2, 0.6), (0.0, 1.0)),  # scattered over primary radiation behind the limb's axis
    "blur_mm": Range((0.15, 0.5), (0.05, 0.9)),  # standard deviation of focal spot and screen
    "blur_pixels": Range((0.0, 0.0), (-0.6, 1.1)),  # the same, of a later resampling
    "log_photons": Range((6.6, 8.2), (5.7, 9.5)),  # natural logarithm of the photons per mm2 behind the axis
    "grid": Range((-1.0, 0.03), (-1.0, 0.1)),  # amplitude of an anti-scatter grid's lines, in attenuation
    # Grey values.
    "level": Range((-1.0, -0.5), (-1.0, -0.5)),  # attenuation of black, relative to the limb's axis
    "latitude": Range((1.7, 2.4), (1.7, 2.4)),  # attenuation from black to white
    "auto": Range((0.0, 0.0), (0.9, 1.0)),  # how far both follow the image's mean and deviation instead
    "black": Range((2.0, 2.0), (1.4, 3.4)),  # in that case: black below the mean, in standard deviations
    "white": Range((2.0, 2.0), (1.9, 4.0)),  # white above the mean
    "log_gamma": Range((-0.3, 0.38), (-1.0, 1.0)),  # log2 of the exponent of the grey values
    "bend": Range((0.0, 0.0), (-0.12, 0.12)),  # amplitudes of two waves added to the tone curve
    "bend_twice": Range((0.0, 0.0), (-0.05, 0.05)),
    "edge": Range((-0.5, 0.5), (-1.0, 2.0)),  # strength of edge enhancement
    "edge_mm": Range((0.6, 2.0), (0.5, 7.0)),  # its scale
    "field": Range((0.0, 0.05), (0.0, 0.7)),  # uneven exposure, in standard deviations of the image
    "slope_down": Range((-0.05, 0.05), (-0.9, 0.9)),  # slope of the exposure along and across the film
    "slope_across": Range((-0.05, 0.05), (-0.9, 0.9)),
    "speckle": Range((0.0, 0.0), (-0.03, 0.03)),  # noise of the digitizer, in grey values of 0 to 1
    "inverted": Range((-1.0, -0.01), (-1.0, 0.4)),  # bone is dark when above 0
    # Borders and objects.
    "collimation": Range((-1.0, 0.15), (-1.0, 0.6)),  # edges of the collimated field in the image
    "unexposed": Range((-1.0, 0.2), (-1.0, 1.0)),  # the outside of that field is white when above 0
    "marker": Range((-1.0, 0.8), (-1.0, 1.0)),  # a side marker
    "text": Range((-1.0, 0.1), (-1.0, 0.5)),  # a burnt-in line
    "hardware": Range((-1.0, 0.02), (-1.0, 0.15)),  # screws, plates and nails
    "prosthesis": Range((-1.0, 0.005), (-1.0, 0.06)),  # of the joint
    "jewellery": Range((-1.0, 0.01), (-1.0, 0.1)),  # rings, zips, buttons
    "seam": Range((-1.0, -0.01), (-1.0, 0.2)),  # where images of a leg are stitched
    "ruler": Range((-1.0, 0.01), (-1.0, 0.15)),
}

# The settings that `films = "varied"` adds; a key of their own keeps the values of the settings above.
VARIED: dict[str, Range] = {
    # The outlines.
    "more_wobble_mm": Range((0.0, 1.0), (0.0, 1.0)),  # added to `wobble_mm`
    "bump_mm": Range((4.0, 12.0), (4.0, 16.0)),  # scale of the outlines' small bumps
    "bumps": Range((0.0, 0.06), (0.0, 0.14)),  # standard deviation of the bumps over that scale
    "notch": Range((0.4, 1.2), (0.1, 1.5)),  # factor on the depth of the notch in the femur's outline
    "patella_drop_mm": Range((-2.0, 10.0), (-8.0, 18.0)),  # shift of the patella towards the joint
    "fibula_mm": Range((-12.0, 3.0), (-34.0, 12.0)),  # shift of the fibula, negative behind the tibia
    "fibula_rise_mm": Range((-3.0, 3.0), (-8.0, 10.0)),  # shift of the fibula's head towards the joint
    # The inner structure of the bones.
    "condyle_medial": Range((0.0, 0.4), (-0.3, 1.2)),  # added relative depth of each part of the femur
    "condyle_lateral": Range((0.0, 0.4), (-0.3, 1.2)),
    "trochlea": Range((0.0, 0.3), (-0.3, 0.8)),
    "roof": Range((0.0, 0.5), (-0.3, 0.9)),  # missing share of the femur's depth over the notch
    "roof_mm": Range((10.0, 20.0), (5.0, 28.0)),  # height of that region
    "plateau": Range((-0.4, 0.4), (-0.6, 0.7)),  # missing share of the tibia's depth between its rims
    "plateau_mm": Range((1.0, 6.0), (0.5, 10.0)),  # distance between the rims
    "strands": Range((-0.1, 0.12), (-0.3, 0.3)),  # amplitude of trabecular strands
    "strand_mm": Range((1.8, 4.0), (1.2, 7.0)),  # distance between the strands
    "scar": Range((-0.2, 0.2), (-0.6, 0.6)),  # strength of the closed growth plates
    "patella_faint": Range((-0.6, 0.4), (-1.0, 0.7)),  # missing share of the patella's attenuation
    "patella_fade": Range((-0.6, 0.6), (-0.8, 0.9)),  # the same, on one side of the patella
    # Width of the patella's edge. Often 0: if most edges were soft, a network would draw sharp ones too far out.
    "patella_soft_mm": Range((-2.0, 1.0), (-4.0, 4.0)),
    "replacement": Range((-1.0, 0.03), (-1.0, 0.15)),  # knee replacement with femoral and tibial components
    "fixation": Range((-1.0, 0.05), (-1.0, 0.2)),  # a plate with screws, or a nail
    # The limb and the crop.
    "asymmetry": Range((-0.12, 0.12), (-0.25, 0.25)),  # of the soft tissue: the medial side over the lateral
    "crop": Range((-1.0, 0.5), (-1.0, 1.0)),  # how close the film's lateral edge is to the knee
    "strip": Range((-1.0, 0.1), (-1.0, 0.3)),  # the image shows a strip along the limb, and black beside it
    # Processing by the detector or the archive.
    "multiscale": Range((-0.7, 0.7), (-1.0, 1.0)),  # strength of multi-scale contrast enhancement
    "base": Range((0.5, 1.0), (0.2, 1.0)),  # factor on the coarsest scale, at strength 1
    "clahe": Range((-2.0, 2.0), (-5.0, 5.0)),  # clip limit beyond 1, in counts of a flat histogram
    "tiles": Range((4.0, 8.0), (2.0, 8.0)),  # of CLAHE along a side of the picture
    "sharpen": Range((-1.0, 1.0), (-2.0, 2.0)),  # strength of an archive's edge enhancement
    "sharpen_mm": Range((0.5, 3.0), (0.4, 10.0)),  # its scale
    # At the end, so that the values of the settings above do not change.
    "no_fibula": Range((-1.0, 0.03), (-1.0, 0.1)),  # the film shows no fibula
}


def draw(key: jax.Array, table: dict[str, Range], width: jax.Array | float) -> Settings:
    """Draw every setting of a table.

    Args:
        key: the key of this draw.
        table: name -> range.
        width: f32[] in [0, 1]; 0 for the clinical range, 1 for the wide range, linear between.

    Returns:
        name -> f32[].
    """
    clinical = jnp.array([entry.clinical for entry in table.values()], jnp.float32)
    wide = jnp.array([entry.wide for entry in table.values()], jnp.float32)
    low, high = (clinical + width * (wide - clinical)).T
    values = low + (high - low) * jax.random.uniform(key, low.shape)
    return dict(zip(table, values, strict=True))
