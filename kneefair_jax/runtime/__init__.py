"""What surrounds a run: its directory, its processes, preemption, disks that fail, files that appear whole."""

__all__ = [
    "atomic",
    "cache_directory",
    "command",
    "distributed",
    "io_errors",
    "output_folder",
    "preemption",
    "run_directory",
]
