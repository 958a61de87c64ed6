from .cache import Arrays, Kept
from .store import (
    DIGEST_FILE,
    ON_BROKEN,
    BrokenCasesError,
    Cases,
    Options,
    check_options,
    fingerprint,
    is_prepared,
    prepare,
    prepare_all,
    refusal,
)

__all__ = [
    "DIGEST_FILE",
    "ON_BROKEN",
    "Arrays",
    "BrokenCasesError",
    "Cases",
    "Kept",
    "Options",
    "check_options",
    "fingerprint",
    "is_prepared",
    "prepare",
    "prepare_all",
    "refusal",
]
