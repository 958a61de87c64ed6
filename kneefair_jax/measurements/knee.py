"""The landmarks of one knee, from the contours of its bones."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from kneefair_jax.measurements import contours, landmarks
from kneefair_jax.measurements.contours import Contour
from kneefair_jax.measurements.joint_space import JointSpace, joint_space
from kneefair_jax.measurements.landmarks import Frame, NotMeasurableError, Shaft

SIDES = ("right", "left")
MAX_OTHER_PIECES = 0.05  # share of a bone outside of its largest piece
MIN_FIBULA_OFFSET = 0.1  # bicondylar widths from the middle of the tibia, for the fibula to tell the side


class Knee:
    """The landmarks of a knee; each is located when it is first used.

    All that locate one raise `NotMeasurableError` with the reason if the film does not show it.
    """

    def __init__(
        self,
        outlines: Mapping[str, Contour | None],
        side: str = "",
        pixel: float = 0.0,
        *,
        has_spacing: bool = True,
        refusal: str = "",
    ):
        """Take the contours of a film.

        Args:
            outlines: whole bones by name, None for one that is absent.
            side: "right" or "left", or "" to leave it to the fibula.
            pixel: length of a pixel; 0 for exact contours.
            has_spacing: whether the unit of the contours is a millimeter; else it is a pixel.
            refusal: why nothing of this knee can be measured; "" if it can.
        """
        self._outlines, self.stated_side, self.pixel = outlines, side, pixel
        self.has_spacing, self.refusal = has_spacing, refusal
        self._local: dict[str, Contour] = {}

    def bone(self, name: str) -> Contour:
        """Return a bone's contour on the film."""
        if self.refusal:
            raise NotMeasurableError(self.refusal)
        outline = self._outlines.get(name)
        if outline is None:
            raise NotMeasurableError(f"the mask has no {name}")
        if outline.other_pieces > MAX_OTHER_PIECES:
            raise NotMeasurableError(f"the {name} is in several pieces: check the mask and its labels")
        return outline

    def local(self, name: str) -> Contour:
        """Return a bone's contour, with points in the frame."""
        if name not in self._local:
            outline = self.bone(name)
            self._local[name] = outline._replace(points=self.frame.of_film(outline.points))
        return self._local[name]

    @cached_property
    def frame(self) -> Frame:
        """The knee's frame, which faces the lateral side if that is known."""
        femur = self.bone("femur")
        frame = landmarks.knee_frame(femur, self.bone("tibia"))
        points = frame.of_film(femur.points)
        straight = landmarks.is_straight(
            points, np.array([1.0, 0.0]), landmarks.STRAIGHT["femur"] * frame.width, self.pixel
        )
        ends = [int(np.linalg.norm(points - end, axis=1).argmin()) for end in frame.bicondylar]
        if straight[ends].any():
            raise NotMeasurableError("the femur ends in a straight line, as if the collimated field cut it")
        try:
            return landmarks.facing_lateral(frame, is_lateral_right=self._is_lateral_right(frame))
        except NotMeasurableError:
            return frame

    @cached_property
    def sided_frame(self) -> Frame:
        """The frame; refused where the lateral side is unknown."""
        self._is_lateral_right(self.frame)
        return self.frame

    @property
    def side(self) -> str:
        """The side of the knee, "right" or "left", on a film with the patient's right at its left; "" if unknown."""
        try:
            return SIDES[self._is_lateral_right(self.frame)]
        except NotMeasurableError:
            return ""

    def _is_lateral_right(self, frame: Frame) -> bool:
        """Return whether the lateral side is that of the film's right."""
        stated = {"right": False, "left": True}.get(self.stated_side)
        fibula = self._outlines.get("fibula")
        offset = 0.0
        if fibula is not None:
            middle = contours.centroid(self.bone("tibia").points)
            offset = float(contours.centroid(fibula.points)[0] - middle[0])
        if abs(offset) < MIN_FIBULA_OFFSET * frame.width:
            if stated is None:
                place = "lies behind the middle of the tibia" if fibula else "is not in the mask"
                raise NotMeasurableError(
                    f"the fibula {place}, so the side of the knee is unknown; kneefair measure and audit take it "
                    "from a column side (right, left)"
                )
            return stated
        if stated is not None and stated != (offset > 0):
            raise NotMeasurableError(
                f"the fibula is on the medial side of a {self.stated_side} knee: the film is mirrored, or the side is "
                "wrong"
            )
        return offset > 0

    @cached_property
    def plateau(self) -> np.ndarray:
        """The edges of the plateau f64[2, 2], the medial one first, in the frame."""
        return landmarks.plateau_edges(self.local("tibia"), self.frame)

    @cached_property
    def femoral_shaft(self) -> Shaft:
        """The axis of the femoral shaft."""
        try:
            return landmarks.shaft(self.local("femur"), self.frame.width, np.zeros(2), -1)
        except NotMeasurableError as reason:
            raise NotMeasurableError(f"femur: {reason}") from reason

    @cached_property
    def tibial_shaft(self) -> Shaft:
        """The axis of the tibial shaft."""
        try:
            return landmarks.shaft(self.local("tibia"), self.frame.width, self.plateau.mean(axis=0), 1)
        except NotMeasurableError as reason:
            raise NotMeasurableError(f"tibia: {reason}") from reason

    @cached_property
    def medial(self) -> JointSpace:
        """The joint space of the medial compartment."""
        return self._joint_space("medial")

    @cached_property
    def lateral(self) -> JointSpace:
        """The joint space of the lateral compartment."""
        return self._joint_space("lateral")

    def _joint_space(self, compartment: str) -> JointSpace:
        bones = self.local("femur"), self.local("tibia")
        return joint_space(*bones, self.sided_frame, compartment, self.pixel)

    def extent(
        self, bone: str, direction: np.ndarray, part: tuple[float, float] = (-np.inf, np.inf)
    ) -> np.ndarray:
        """Return the ends f64[2, 2] of a line along a direction, as long as a bone.

        Args:
            bone: its name.
            direction: f64[2], in the frame.
            part: of the bone, as second coordinates in the frame.

        Raises:
            NotMeasurableError: the film or its collimated field cuts the bone at one of the ends.
        """
        contour = self.local(bone)
        points = contour.points
        rows = np.flatnonzero((points[:, 1] > part[0]) & (points[:, 1] < part[1]))
        places = points[rows] @ direction
        ends = rows[[places.argmin(), places.argmax()]]
        if contour.is_cut[ends].any():
            raise NotMeasurableError(f"the film cuts the {bone}")
        length = landmarks.STRAIGHT[bone] * self.frame.width
        if landmarks.is_straight(points, direction, length, self.pixel)[ends].any():
            raise NotMeasurableError(f"the {bone} ends in a straight line, as if the collimated field cut it")
        across = np.array([-direction[1], direction[0]])
        height = float((points[ends] @ across).mean())
        along = points[ends] @ direction
        ends_of_line: np.ndarray = along[:, None] * direction + height * across
        return ends_of_line
