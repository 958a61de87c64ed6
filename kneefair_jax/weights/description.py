"""What `NAME.json` beside a network's weights may say: the schema of a file that somebody else may have written."""

from kneefair_jax import models
from kneefair_jax.anatomy import VOID
from kneefair_jax.runtime.schema import (
    Anything,
    Choice,
    Flag,
    Integer,
    ListOf,
    Nullable,
    Omittable,
    Row,
    Table,
    Text,
    optional,
)

SIDE = Integer(1, 4096)  # pixels along a side of the working grid
CHANNELS = Choice((1, 3))
NETWORK = Table(
    {
        "name": Choice(tuple(models.MODELS)),
        **optional(
            {
                "widths": ListOf(Integer(1, 4096), 1, 10),
                "convolutions": Integer(1, 10),
                "norm": Choice(("batch", "group")),
                "dtype": Choice(tuple(models.DTYPES)),
                "remat": Flag(),
                "weights": Text(printable=False),
            }
        ),
    }
)
STRUCTURES = ListOf(Text(200, non_empty=True), 1, VOID - 1, unique=True)
# How an image of another shape comes to the working grid: stretched, or with its aspect ratio, padded.
FITS = ("stretch", "pad")
GRID = Row((SIDE, SIDE, CHANNELS))
# How the network was made and scored is for people: nothing computes with it.
DESCRIPTION = Table(
    {
        "network": NETWORK,
        "structures": STRUCTURES,
        "grid": GRID,
        "fit": Omittable(Choice(FITS)),
        "group": Omittable(Nullable(Text(200, non_empty=True))),
    },
    other_fields=Anything(),
)
