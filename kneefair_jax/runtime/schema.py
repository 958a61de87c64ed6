"""Types and ranges of values from outside the program: declared once, checked before use.

    SIZE = ListOf(Integer(1, 2048), 2, 2)
    find_fault((0, 16), SIZE, "data.size")    # Fault("data.size[0]", "0", "a whole number from 1 to 2048")

Schemas check JSON files (`checked_files`), the fields of a config, and the numbers on a command line.
"""

import math
import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_MAX_CHARACTERS = 60  # of a value in a message


class Fault(NamedTuple):
    """A value that does not fit its schema.

    Attributes:
        place: where the value stands, such as `model.widths[0]`; "" for the root.
        value: the value as abbreviated text; "" if the value is missing.
        expected: what the schema accepts, as the object of "give".
    """

    place: str
    value: str
    expected: str


@dataclass(frozen=True)
class Integer:
    """Accepts integers from `low` to `high`, both included, but no bool."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        """What the schema accepts."""
        return f"a whole number from {self.low:,} to {self.high:,}"

    def accepts(self, value: Any) -> bool:
        """Return whether the value fits."""
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return is_integer and self.low <= int(value) <= self.high


@dataclass(frozen=True)
class Number:
    """Accepts finite numbers from `low` to `high`, both included; `exclusive_low` excludes `low`."""

    low: float
    high: float
    exclusive_low: bool = False

    @property
    def expected(self) -> str:
        """What the schema accepts."""
        bounds = "above {} and at most {}" if self.exclusive_low else "from {} to {}"
        return "a number " + bounds.format(f"{self.low:g}", f"{self.high:g}")

    def accepts(self, value: Any) -> bool:
        """Return whether the value fits."""
        is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return is_real and self.low <= value <= self.high and not (self.exclusive_low and value == self.low)


@dataclass(frozen=True)
class Flag:
    """Accepts True and False."""

    expected = "True or False"

    def accepts(self, value: Any) -> bool:
        """Return whether the value fits."""
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text:
    """Accepts text of at most `max_length` characters, with `printable` only without control characters."""

    max_length: int = 4096
    non_empty: bool = False
    printable: bool = True

    @property
    def expected(self) -> str:
        """What the schema accepts."""
        return f"{'printable ' * self.printable}text of {int(self.non_empty)} to {self.max_length} characters"

    def accepts(self, value: Any) -> bool:
        """Return whether the value fits."""
        if not isinstance(value, str) or not self.non_empty <= len(value) <= self.max_length:
            return False
        return value.isprintable() or not self.printable


@dataclass(frozen=True)
class Choice:
    """Accepts one of several texts or numbers."""

    values: tuple[str | int, ...]

    @property
    def expected(self) -> str:
        """What the schema accepts."""
        return f"one of {', '.join(map(str, self.values))}"

    def accepts(self, value: Any) -> bool:
        """Return whether the value fits."""
        return isinstance(value, str | int) and not isinstance(value, bool) and value in self.values


@dataclass(frozen=True)
class Anything:
    """Accepts any value: nothing uses it, or its user checks it."""

    expected = "any value"

    def accepts(self, value: Any) -> bool:
        """Return True."""
        del value
        return True


@dataclass(frozen=True)
class Nullable:
    """Accepts None and values of `schema`."""

    schema: "Schema"


@dataclass(frozen=True)
class ListOf:
    """Accepts lists and tuples of `min_length` to `max_length` values of `schema`, all different if `unique`."""

    schema: "Schema"
    min_length: int
    max_length: int
    unique: bool = False


@dataclass(frozen=True)
class Row:
    """Accepts lists and tuples with one value for each schema."""

    schemas: tuple["Schema", ...]


@dataclass(frozen=True)
class Omittable:
    """Marks a field that a table may lack; a present value fits `schema`."""

    schema: "Schema"


@dataclass(frozen=True)
class Table:
    """Accepts mappings from names to values.

    Attributes:
        fields: the schema of each named field.
        other_fields: the schema of every other field; None refuses other fields.
    """

    fields: Mapping[str, "Schema"] = field(default_factory=dict)
    other_fields: "Schema | None" = None


type Leaf = Integer | Number | Flag | Text | Choice | Anything
type Schema = Leaf | Nullable | ListOf | Row | Omittable | Table


def find_fault(value: Any, schema: Schema, place: str = "") -> Fault | None:
    """Return the first value that does not fit, in the order of the schema; None if all values fit.

    Args:
        value: of any type; the search enters lists, tuples and mappings, no deeper than the schema.
        schema: what the value must fit.
        place: where the value stands, for the message.
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
                return Fault(place, abbreviate(value), f"a list of {len(schemas)} values")
            faults = (
                find_fault(v, s, f"{place}[{i}]") for i, (v, s) in enumerate(zip(value, schemas, strict=True))
            )
            return next((fault for fault in faults if fault), None)
        case Table():
            return _fault_in_table(value, schema, place)
        case _:
            return None if schema.accepts(value) else Fault(place, abbreviate(value), schema.expected)


def _fault_in_list(value: Any, schema: ListOf, place: str) -> Fault | None:
    low, high = schema.min_length, schema.max_length
    if not isinstance(value, list | tuple) or not low <= len(value) <= high:
        length = f"{low}" if low == high else f"{low} to {high}"
        return Fault(place, abbreviate(value), f"a list of {length} values")
    for number, item in enumerate(value):
        if fault := find_fault(item, schema.schema, f"{place}[{number}]"):
            return fault
        if schema.unique and item in value[:number]:
            return Fault(f"{place}[{number}]", abbreviate(item), "each value once")
    return None


def _fault_in_table(value: Any, schema: Table, place: str) -> Fault | None:
    if not isinstance(value, Mapping):
        return Fault(
            place, abbreviate(value), f"named fields ({', '.join(list(schema.fields)[:4]) or 'any'}, ...)"
        )
    prefix = f"{place}." if place else ""
    for name, inner in schema.fields.items():
        if name in value:
            if fault := find_fault(value[name], inner, prefix + name):
                return fault
        elif not isinstance(inner, Omittable):
            return Fault(
                prefix + name, "", inner.expected if isinstance(inner, Leaf.__value__) else "its values"
            )
    for name in value.keys() - schema.fields.keys():
        place = f"{prefix}{str(name)[:_MAX_CHARACTERS]}"
        if schema.other_fields is None:
            return Fault(place, abbreviate(value[name]), f"one of the fields {', '.join(schema.fields)}")
        if fault := find_fault(value[name], schema.other_fields, place):
            return fault
    return None


def optional(fields: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the fields with each marked as omittable."""
    return {name: Omittable(schema) for name, schema in fields.items()}


def abbreviate(value: Any) -> str:
    """Return a value as text of at most 60 printable characters; long and nested values are abbreviated."""
    try:
        text = reprlib.repr(value)
    except ValueError:  # Python converts no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
