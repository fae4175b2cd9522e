"""What an operating system says when it keeps a file from being written, told from defects of ours."""

import errno
import re

from tapir.errors import RunError

_PLACES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "give a place that can be written",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path",
    errno.ENOENT: "check the path",
    errno.EEXIST: "check the path",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EIO: "check the disk",
}
"""The next step, by what went wrong."""
_OF_LIBRARY = re.compile(r"os error (\d+)|\[errno (\d+)\]", re.IGNORECASE)
_OF_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
}


def write_error(error: BaseException, place: object = None) -> RunError | None:
    """The refusal to write that `error` stands for, with the next step; None for any other error.

    `place`: what was being written, where the error does not name it.
    """
    code = _code(error)
    if code not in _PLACES:
        return None
    named = getattr(error, "filename", None) or place
    what = str(getattr(error, "strerror", None) or error)
    return RunError(
        f"{named or 'a file'}: cannot be written ({what}); {_PLACES[code]}, then run the same command again"
    )


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OF_LIBRARY.search(str(error))
    return int(found[1] or found[2]) if found else _OF_SQLITE.get(str(error))
