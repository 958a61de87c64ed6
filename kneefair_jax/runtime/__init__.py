"""What surrounds a run: its directory, its processes, preemption, and disks that fail. Import the modules by name."""
