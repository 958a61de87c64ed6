"""Group objectives by name: what a config's `mitigation.objective.name` names.

The decorator `register` stands beside an objective's function and states what the rest of the package has to know about
it; `kneefair_jax.mitigation` imports every module of this package, so that a new file is found without a list.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError, lookup
from kneefair_jax.mitigation.objective import GroupObjective
from kneefair_jax.runtime.schema import Integer, Number, abbreviate

type Range = Number | Integer


@dataclass(frozen=True)
class Registration:
    """A group objective and its properties.

    Attributes:
        create: the function that returns it, given its settings.
        ranges: the range of each setting; the function's signature has the defaults.
        is_linear: whether F is linear in the losses: the weights do not depend on them, so they can be computed before
            any loss.
        uses_groups: whether the weights depend on the groups; without, they are the same where no group is known.
        compares_groups: whether it compares the groups of a batch: on a batch of a single group it equals
            `group_balanced`, or, like `group_dro`, does not update its weights.
        reweights: whether it weights a group by its rarity, so that with sampling that balances the groups it would
            correct twice. The rest take means within the groups, which do not depend on how often the sampler draws a
            group.
        sampler: a key of `sampling.SAMPLERS`, which studies combine it with; "": that of the baseline.
    """

    create: Callable[..., GroupObjective]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    is_linear: bool = False
    uses_groups: bool = True
    compares_groups: bool = False
    reweights: bool = False
    sampler: str = ""

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each setting."""
        return {name: p.default for name, p in inspect.signature(self.create).parameters.items()}


OBJECTIVES: dict[str, Registration] = {}


def register[**P](
    ranges: Mapping[str, Range] | None = None, **properties: Any
) -> Callable[[Callable[P, GroupObjective]], Callable[P, GroupObjective]]:
    """Register the decorated function under its name; it then refuses settings outside their ranges.

    Args:
        ranges: the range of each of its settings.
        properties: other attributes of `Registration`.

    Raises:
        ValueError: the name is taken, the ranges are not those of the function's settings, a default is outside its
            range, or another objective has a setting of the same name with another range or default.
    """

    def add(function: Callable[P, GroupObjective]) -> Callable[P, GroupObjective]:
        @functools.wraps(function)
        def checked(*args: P.args, **settings: P.kwargs) -> GroupObjective:
            settings.update({name: _number(value) for name, value in settings.items()})
            for name, value in settings.items():
                if name in registration.ranges and not registration.ranges[name].accepts(value):
                    raise InputError(
                        f"config.mitigation.objective.{name}={abbreviate(value)}: give "
                        f"{registration.ranges[name].expected}"
                    )
            return function(*args, **settings)

        registration = Registration(checked, ranges or {}, **properties)
        _check_registration(function.__name__, registration)
        OBJECTIVES[function.__name__] = registration
        return checked

    return add


def _number(value: Any) -> Any:
    """Return the number of an array without dimensions, and any other value as it is."""
    is_scalar = hasattr(value, "item") and not jnp.ndim(value) and not isinstance(value, jax.core.Tracer)
    return value.item() if is_scalar else value


def _check_registration(name: str, new: Registration) -> None:
    """Refuse an objective that a config could not name, or whose settings a config could not state."""
    if name in OBJECTIVES:
        raise ValueError(f"objective {name!r} is already registered; give the function another name")
    if new.ranges.keys() != new.defaults.keys():
        raise ValueError(
            f"objective {name!r} has the settings {sorted(new.defaults)} and ranges of {sorted(new.ranges)}; give "
            "`register` one range for each setting"
        )
    for setting, allowed in new.ranges.items():
        if not allowed.accepts(default := new.defaults[setting]):
            raise ValueError(f"objective {name!r}: give {setting} a default in its range, {allowed.expected}")
        for other, registration in OBJECTIVES.items():
            if setting not in registration.ranges:
                continue
            shared = (registration.ranges[setting], registration.defaults[setting])
            if shared != (allowed, default):
                raise ValueError(
                    f"objective {name!r}: {setting} is a setting of {other!r} too; give it the same range, "
                    f"{shared[0].expected}, and the same default, {shared[1]}, or another name"
                )


def create(name: str, settings: Mapping[str, Any]) -> GroupObjective:
    """Build the objective that a config names.

    Args:
        name: a key of `OBJECTIVES`.
        settings: hyperparameters by name. The objective ignores those that it does not take; those that are absent
            have their defaults.

    Raises:
        InputError: there is no such objective, or a hyperparameter is out of its range.
    """
    registration = lookup(OBJECTIVES, name, "config.mitigation.objective.name")
    return registration.create(
        **{field: settings[field] for field in registration.ranges if field in settings}
    )
