"""What surrounds a run: its directory, its processes, preemption, disks that fail, files that appear whole."""

__all__ = ["atomic", "distributed", "io_errors", "preemption", "run_directory"]
