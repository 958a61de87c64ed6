"""What surrounds a run: its directory, its processes, preemption, disks that fail, files that appear whole."""

from kneefair_jax.runtime.atomic import write_json, write_text
from kneefair_jax.runtime.preemption import PREEMPTED, Preempted

__all__ = ["PREEMPTED", "Preempted", "write_json", "write_text"]
