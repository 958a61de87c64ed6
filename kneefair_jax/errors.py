"""The one error that a person, not a program, is meant to read."""


class InputError(ValueError):
    """What a user gave cannot be used.

    The message is one sentence or a few that name the file, the row and the remedy;
    `launch.py` prints it without a traceback and exits with status 2.
    """
