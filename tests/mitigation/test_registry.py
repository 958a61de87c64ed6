"""What `register` refuses, and that a refused objective is not registered."""

import pytest

from kneefair_jax.mitigation import registry
from kneefair_jax.mitigation.objective import GroupObjective, training_counts
from kneefair_jax.runtime.schema import Number


@pytest.fixture(autouse=True)
def objectives(monkeypatch):
    """A copy of the registry, so that no other test sees what these register."""
    monkeypatch.setattr(registry, "OBJECTIVES", registry.OBJECTIVES.copy())


def tilted(*, tilt: float = 1.0) -> GroupObjective:
    return GroupObjective(training_counts, lambda losses, group, mask, state, axis_name=None: (losses, state))


def powered(*, power: float = 1.0) -> GroupObjective:
    return tilted()


def doubled(*, power: float = 2.0) -> GroupObjective:
    return tilted()


def unset(*, tilt: float) -> GroupObjective:
    return tilted()


def erm(*, tilt: float = 1.0) -> GroupObjective:
    return tilted()


TILT = Number(0, 10)


def test_a_new_objective_is_registered_by_its_name():
    registry.register({"tilt": TILT}, compares_groups=True)(tilted)
    registration = registry.OBJECTIVES["tilted"]
    assert registration.ranges == {"tilt": TILT} and registration.defaults == {"tilt": 1.0}
    assert registration.compares_groups and not registration.is_linear


@pytest.mark.parametrize(
    ("function", "ranges", "message"),
    [
        pytest.param(erm, {"tilt": TILT}, "'erm' is already registered", id="name taken"),
        pytest.param(tilted, None, r"\['tilt'\].*\[\]", id="no range"),
        pytest.param(tilted, {"slope": TILT}, r"\['tilt'\].*\['slope'\]", id="range of another setting"),
        pytest.param(tilted, {"tilt": TILT, "slope": TILT}, r"\['slope', 'tilt'\]", id="one range too many"),
        pytest.param(tilted, {"tilt": Number(2, 10)}, "tilt.*from 2 to 10", id="default out of range"),
        pytest.param(unset, {"tilt": TILT}, "tilt.*default", id="no default"),
        pytest.param(powered, {"power": Number(0, 9)}, "power.*error_bound.*0 to 100", id="other range"),
        pytest.param(doubled, {"power": Number(0, 100)}, r"power.*error_bound.*1\.0", id="other default"),
    ],
)
def test_an_objective_that_no_config_could_state_is_refused(function, ranges, message):
    before = dict(registry.OBJECTIVES)
    with pytest.raises(ValueError, match=message):
        registry.register(ranges)(function)
    assert before == registry.OBJECTIVES


def test_a_setting_with_the_same_range_and_default_is_shared():
    registry.register({"power": Number(0, 100)})(powered)
    assert registry.OBJECTIVES["powered"].defaults == registry.OBJECTIVES["error_bound"].defaults
