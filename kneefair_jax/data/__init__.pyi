from . import augment, oai, phantom, store
from .cohort_loader import SOURCES, Cohort, Prepared, load, load_external, prepare
from .pipeline import evaluation_batches, training_batches
from .readers import read_image, read_mask
from .sampling import SAMPLERS
from .source import Example, Source

__all__ = [
    "SAMPLERS",
    "SOURCES",
    "Cohort",
    "Example",
    "Prepared",
    "Source",
    "augment",
    "evaluation_batches",
    "load",
    "load_external",
    "oai",
    "phantom",
    "prepare",
    "read_image",
    "read_mask",
    "store",
    "training_batches",
]
