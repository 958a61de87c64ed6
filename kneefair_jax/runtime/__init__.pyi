from .atomic import write_json, write_text
from .preemption import PREEMPTED, Preempted

__all__ = ["PREEMPTED", "Preempted", "write_json", "write_text"]
