"""Types and bounds of values that somebody else may have written: declared once, checked before any use.

    SIZE = ListOf(Whole(1, 2048), 2, 2)
    find_fault((0, 16), SIZE, "data.size")    # Fault("data.size[0]", "0", "a whole number from 1 to 2048")

A schema covers JSON files (`json_files`), the fields of a config, and the numbers on a command line.
"""

import math
import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_SHOWN = 60  # characters of a value in a message


class Fault(NamedTuple):
    """One value that does not fit its schema.

    Attributes:
        place: of the value, such as `model.widths[0]`; "" is the whole.
        value: as text, shortened; "" where the value is missing.
        wanted: what the value may be, to follow "give".
    """

    place: str
    value: str
    wanted: str


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`, both included; a bool is none."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        """What the value may be."""
        return f"a whole number from {self.low:,} to {self.high:,}"

    def accepts(self, value: Any) -> bool:
        """Whether it is one."""
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return is_whole and self.low <= int(value) <= self.high


@dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high`, both included; without `low` where `above` is set."""

    low: float
    high: float
    above: bool = False

    @property
    def wanted(self) -> str:
        """What the value may be."""
        between = "above {} and at most {}" if self.above else "from {} to {}"
        return "a number " + between.format(f"{self.low:g}", f"{self.high:g}")

    def accepts(self, value: Any) -> bool:
        """Whether it is one."""
        is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return is_real and self.low <= value <= self.high and not (self.above and value == self.low)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    wanted = "True or False"

    def accepts(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text:
    """Text of at most `longest` characters; not empty where `filled`, without control characters where `printable`."""

    longest: int = 4096
    filled: bool = False
    printable: bool = True

    @property
    def wanted(self) -> str:
        """What the value may be."""
        return f"{'printable ' * self.printable}text of {int(self.filled)} to {self.longest} characters"

    def accepts(self, value: Any) -> bool:
        """Whether it is one."""
        if not isinstance(value, str) or not self.filled <= len(value) <= self.longest:
            return False
        return value.isprintable() or not self.printable


@dataclass(frozen=True)
class Choice:
    """One of a few texts or numbers."""

    values: tuple[str | int, ...]

    @property
    def wanted(self) -> str:
        """What the value may be."""
        return f"one of {', '.join(map(str, self.values))}"

    def accepts(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, str | int) and not isinstance(value, bool) and value in self.values


@dataclass(frozen=True)
class Anything:
    """Any value: it is not used, or its user checks it."""

    wanted = "any value"

    def accepts(self, value: Any) -> bool:
        """Always."""
        del value
        return True


@dataclass(frozen=True)
class Nullable:
    """None, or a value of `schema`."""

    schema: "Schema"


@dataclass(frozen=True)
class ListOf:
    """A list or tuple of `fewest` to `most` values of `schema`, all different where `unique` is set."""

    schema: "Schema"
    fewest: int
    most: int
    unique: bool = False


@dataclass(frozen=True)
class Row:
    """A list or tuple of one value of each schema."""

    schemas: tuple["Schema", ...]


@dataclass(frozen=True)
class Omittable:
    """A field that a table may lack; where it is present, a value of `schema`."""

    schema: "Schema"


@dataclass(frozen=True)
class Table:
    """Named values.

    Attributes:
        fields: name -> schema.
        others: of names that are not among `fields`; None refuses these.
    """

    fields: Mapping[str, "Schema"] = field(default_factory=dict)
    others: "Schema | None" = None


type Leaf = Whole | Number | Flag | Text | Choice | Anything
type Schema = Leaf | Nullable | ListOf | Row | Omittable | Table


def find_fault(value: Any, schema: Schema, place: str = "") -> Fault | None:
    """Return the first value that does not fit, in the order of the schema; None where all fit.

    Args:
        value: of any type; only lists, tuples and mappings are looked into, no deeper than the schema.
        schema: to compare with.
        place: of the value, for the message.
    """
    match schema:
        case Nullable(inner):
            return None if value is None else find_fault(value, inner, place)
        case Omittable(inner):
            return find_fault(value, inner, place)
        case ListOf():
            return _fault_in_list(value, schema, place)
        case Row(schemas):
            if not isinstance(value, list | tuple) or len(value) != len(schemas):
                return Fault(place, shown(value), f"a list of {len(schemas)} values")
            faults = (
                find_fault(v, s, f"{place}[{i}]") for i, (v, s) in enumerate(zip(value, schemas, strict=True))
            )
            return next((fault for fault in faults if fault), None)
        case Table():
            return _fault_in_table(value, schema, place)
        case _:
            return None if schema.accepts(value) else Fault(place, shown(value), schema.wanted)


def _fault_in_list(value: Any, schema: ListOf, place: str) -> Fault | None:
    length = f"{schema.fewest}" if schema.fewest == schema.most else f"{schema.fewest} to {schema.most}"
    if not isinstance(value, list | tuple) or not schema.fewest <= len(value) <= schema.most:
        return Fault(place, shown(value), f"a list of {length} values")
    for number, item in enumerate(value):
        if fault := find_fault(item, schema.schema, f"{place}[{number}]"):
            return fault
        if schema.unique and item in value[:number]:
            return Fault(f"{place}[{number}]", shown(item), "each value once")
    return None


def _fault_in_table(value: Any, schema: Table, place: str) -> Fault | None:
    if not isinstance(value, Mapping):
        return Fault(
            place, shown(value), f"named fields ({', '.join(list(schema.fields)[:4]) or 'any'}, ...)"
        )
    prefix = f"{place}." if place else ""
    for name, inner in schema.fields.items():
        if name in value:
            if fault := find_fault(value[name], inner, prefix + name):
                return fault
        elif not isinstance(inner, Omittable):
            return Fault(
                prefix + name, "", inner.wanted if isinstance(inner, Leaf.__value__) else "its values"
            )
    for name in value.keys() - schema.fields.keys():
        place = f"{prefix}{str(name)[:_SHOWN]}"
        if schema.others is None:
            return Fault(place, shown(value[name]), f"one of the fields {', '.join(schema.fields)}")
        if fault := find_fault(value[name], schema.others, place):
            return fault
    return None


def optional(fields: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return fields of a table that may all be missing."""
    return {name: Omittable(schema) for name, schema in fields.items()}


def shown(value: Any) -> str:
    """Return a value as text of at most 60 printable characters; nothing deep or long is written out."""
    try:
        text = reprlib.repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
