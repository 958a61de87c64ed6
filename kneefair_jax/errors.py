"""The one error that a person, not a program, is meant to read."""

from collections.abc import Mapping


class InputError(ValueError):
    """What a user gave cannot be used.

    The message is one sentence or a few that name the file, the row and the remedy;
    `launch.py` prints it without a traceback and exits with status 2.
    """


def choose[T](registry: Mapping[str, T], name: str, field: str) -> T:
    """The entry of a registry that a config field names.

    Raises:
        InputError: it names none; the message lists those there are.
    """
    if name not in registry:
        raise InputError(f"config.{field}={name!r}: give one of {', '.join(sorted(registry))}")
    return registry[name]


def told(error: BaseException) -> str:
    """The first line of what a library's error says, at most 200 characters; the error's name if it says nothing."""
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
