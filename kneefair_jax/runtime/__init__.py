"""The environment of a run: directories, processes, preemption, atomic files and disk errors."""

__all__ = [
    "atomic",
    "command",
    "distributed",
    "output_folder",
    "preemption",
    "run_directory",
]
