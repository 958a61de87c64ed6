"""The error for bad input, whose message is written for the user."""

from collections.abc import Mapping


class InputError(ValueError):
    """A file, a flag or a setting that the user gave is invalid.

    The message is one sentence or a few that name the file, the row and the remedy;
    `launch.py` prints it without a traceback and exits with status 2.
    """


def lookup[T](registry: Mapping[str, T], name: str, field: str) -> T:
    """Return the entry of a registry that the user names.

    Args:
        registry: name -> entry.
        name: as given by the user.
        field: where it was given, such as `config.loss`.

    Raises:
        InputError: the registry has no such entry; the message lists its entries.
    """
    if name not in registry:
        raise InputError(f"{field}={name!r}: give one of {', '.join(sorted(registry))}")
    return registry[name]


def describe(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; the error's name if it has no message."""
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
