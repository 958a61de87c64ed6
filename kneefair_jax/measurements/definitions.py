"""The measurements: names, units, definitions, and what is known of the error of each.

Places along the femur's width are shares of the bicondylar width, 0 at the most medial point. Errors are those of the
sources; they are printed beside a measurement. The errors of this package are in docs/measured.md.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from kneefair_jax.errors import InputError

Unit = Literal["mm", "mm2", "degrees", "ratio"]


class Definition(NamedTuple):
    """A measurement.

    Attributes:
        unit: of its values.
        text: what is measured.
        known_error: what others have reported of its error; "" if nothing was found.
        reproducibility: difference below which two values count as equal, in the unit; NaN where none is established.
    """

    unit: Unit
    text: str
    known_error: str = ""
    reproducibility: float = float("nan")


JSW_MM, ANGLE_DEGREES = 0.2, 1.0
_MINIMUM = "software reproducibility 0.16 to 0.18 mm (Duryea et al. 2000, Medical Physics 27:580)"
_FIXED = (
    "responsiveness 0.74 at a fixed location, 0.49 of the minimum (Neumann et al. 2009, Osteoarthritis and Cartilage "
    "17:761, PMC3138121)"
)
_FTA = (
    "predicts the hip-knee-ankle angle to 1.8 degrees (Gielis et al. 2020, 10.1080/17453674.2020.1779516); biased by "
    "short shafts (Sheehy et al. 2011, PMC3038654)"
)


def _jsw(compartment: str) -> dict[str, Definition]:
    span = {"medial": "0.15 to 0.30", "lateral": "0.70 to 0.90"}[compartment]
    return {
        f"jsw_min_{compartment}": Definition(
            "mm",
            f"least distance from the femoral condyle to the tibial plateau in the {compartment} compartment, without "
            "its intercondylar part and its margin",
            _MINIMUM,
            JSW_MM,
        ),
        f"jsw_mean_{compartment}": Definition(
            "mm",
            f"mean distance from condyle to plateau along the normal of the condylar tangent, at {span} of the "
            "bicondylar width",
            _FIXED,
            JSW_MM,
        ),
        f"jsw_area_{compartment}": Definition(
            "mm2", f"area of the joint space at {span} of the bicondylar width"
        ),
    }


MEASUREMENTS: dict[str, Definition] = {
    **_jsw("medial"),
    **_jsw("lateral"),
    "fta": Definition(
        "degrees",
        "femorotibial angle: between lines through the middles of the widths of the femoral and of the tibial shaft; "
        "valgus is positive. It is not the hip-knee-ankle angle",
        _FTA,
        ANGLE_DEGREES,
    ),
    "aldfa": Definition(
        "degrees",
        "anatomical lateral distal femoral angle: between femoral shaft and condylar tangent, on the lateral side",
        "of mechanical versions 80 % within 1 degree (10.1186/s13018-024-04658-3)",
        ANGLE_DEGREES,
    ),
    "ampta": Definition(
        "degrees",
        "anatomical medial proximal tibial angle: between tibial shaft and plateau line, on the medial side",
        "of mechanical versions 80 % within 1 degree (10.1186/s13018-024-04658-3)",
        ANGLE_DEGREES,
    ),
    "jlca": Definition(
        "degrees",
        "joint line convergence angle: between condylar tangent and plateau line; positive where the joint opens to "
        "the lateral side",
        "unreliable even between readers (intraclass correlation 0.73)",
        ANGLE_DEGREES,
    ),
    "bicondylar_width": Definition("mm", "extent of the femoral condyles along the condylar tangent"),
    "plateau_width": Definition("mm", "extent of the tibial plateau along the plateau line"),
    "width_ratio": Definition("ratio", "bicondylar width over plateau width"),
    "patella_width": Definition("mm", "extent of the patella along the condylar tangent"),
    "patella_height": Definition("mm", "extent of the patella across the condylar tangent"),
}


def check_names(names: Iterable[str], source: str) -> None:
    """Refuse names that are no measurements.

    Raises:
        InputError: the message names their source, such as an option, and lists the measurements.
    """
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        raise InputError(
            f"{source}: {unknown[0]!r} is not a measurement; the measurements are {', '.join(MEASUREMENTS)}"
        )
