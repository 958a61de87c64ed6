"""The environment of a run: directories, processes, preemption, disk errors, atomic files."""

__all__ = [
    "atomic",
    "command",
    "distributed",
    "io_errors",
    "output_folder",
    "preemption",
    "run_directory",
]
