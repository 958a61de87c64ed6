"""A knee of simple shapes, whose measurements follow by hand."""

import numpy as np

WIDTH = 84.0  # of the condyles: two discs of radius 20 at 22 mm from the middle
RADIUS, MIDDLE = 20.0, 22.0
PLATEAU, SHAFT, PATELLA = 78.0, 30.0, (44.0, 36.0)  # the patella is an ellipse


def knee(
    *,
    medial=5.0,
    lateral=5.0,
    valgus=6.0,
    turn=0.0,
    side="left",
    pixel=0.2,
    size=(200.0, 150.0),
    shift=(0.0, 0.0),
    grow=0.0,
):
    """Return the whole bones bool[H, W] of a knee.

    Args:
        medial: joint space below the medial condyle, mm; the plateau is a line through both heights.
        lateral: the same, below the lateral condyle.
        valgus: degrees by which the femoral shaft leans to the lateral side on its way up.
        turn: of the knee on the film, degrees.
        side: "left" has its lateral side at the film's right.
        pixel: mm.
        size: of the film, mm.
        shift: of the joint from the film's center, mm down and to the right.
        grow: mm by which femur and tibia are wider at their distal and proximal end.
    """
    rows, columns = (round(length / pixel) for length in size)
    film_y = (np.arange(rows) + 0.5)[:, None] * pixel - size[0] / 2 - shift[0]
    film_x = (np.arange(columns) + 0.5)[None] * pixel - size[1] / 2 - shift[1]
    angle = np.deg2rad(turn)
    x = np.cos(angle) * film_x + np.sin(angle) * film_y
    y = np.cos(angle) * film_y - np.sin(angle) * film_x
    if side == "right":
        x = -x
    radius = RADIUS + grow
    discs = [(np.hypot(x - center, y + RADIUS) <= radius) & (y >= -RADIUS) for center in (-MIDDLE, MIDDLE)]
    lean = np.tan(np.deg2rad(valgus)) * np.maximum(-y - RADIUS, 0)
    flare = np.interp(-y, [RADIUS, 38], [WIDTH / 2, SHAFT / 2])
    shaft = (np.abs(x - lean) <= flare) & (y < -RADIUS)
    slope = (lateral - medial) / (2 * MIDDLE)
    top = 0.5 * (medial + lateral) + slope * x - grow
    # The tibia's sides are parallel to its axis, which is perpendicular to the plateau.
    along = (y - 0.5 * (medial + lateral) - slope * x) / np.sqrt(1 + slope**2)
    place = x * np.sqrt(1 + slope**2) + slope * along
    half = np.interp(along, [12, 40], [PLATEAU / 2, SHAFT / 2])
    tibia = (y >= top) & (np.abs(place) <= half)
    spine = (np.abs(x) < 6) & (y >= top - 4 + np.abs(x) * 0.67)
    fibula = (np.abs(x - 42) <= 7) & (y > 18)
    patella = np.square(x / (PATELLA[0] / 2)) + np.square((y + 34) / (PATELLA[1] / 2)) <= 1
    return {
        "femur": discs[0] | discs[1] | shaft,
        "tibia": tibia | (spine & (y < 30)),
        "fibula": fibula,
        "patella": patella,
    }


def values(result):
    """Return name -> value of the measurements that were taken."""
    return {name: one.value for name, one in result.items() if not one.reason}
