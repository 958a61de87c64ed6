from .store import (
    DIGEST_FILE,
    ON_READ_ERROR,
    Cases,
    Options,
    UnreadableCasesError,
    check_options,
    fingerprint,
    is_prepared,
    prepare,
    prepare_all,
    unreadable_message,
)

__all__ = [
    "DIGEST_FILE",
    "ON_READ_ERROR",
    "Cases",
    "Options",
    "UnreadableCasesError",
    "check_options",
    "fingerprint",
    "is_prepared",
    "prepare",
    "prepare_all",
    "unreadable_message",
]
