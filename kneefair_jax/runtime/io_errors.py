"""What a full or failing disk does, said in a sentence; libraries wrap the system's error in errors of their own."""

import errno
import os
from collections.abc import Iterator

_REMEDY = {
    errno.ENOSPC: "make space",
    errno.EDQUOT: "make space within your quota",
    errno.EFBIG: "lift the limit on the size of files",
    errno.EROFS: "give a --workdir that can be written",
    errno.EACCES: "give a --workdir that can be written and data that can be read",
    errno.EPERM: "give a --workdir that can be written and data that can be read",
    errno.EIO: "look at the disk",
    errno.ESTALE: "look at the network file system",
}

_IN_TEXTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sentence(error: BaseException) -> str | None:
    """What happened and what to do; None where the storage did not cause the error."""
    for cause in _chain(error):
        for number, remedy in _REMEDY.items():
            known = isinstance(cause, OSError) and cause.errno == number
            # TensorStore, Arrow and Riegeli put the system's words into texts.
            if known or (number in _IN_TEXTS and os.strerror(number) in str(cause)):
                where = f"{cause.filename}: " if isinstance(cause, OSError) and cause.filename else ""
                return f"{where}{os.strerror(number).lower()}; {remedy}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
