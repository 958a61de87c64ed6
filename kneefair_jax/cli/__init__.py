"""The command `kneefair`, with a sub-command for each task; `launch.py` is its part that reads configs."""

__all__: list[str] = []
