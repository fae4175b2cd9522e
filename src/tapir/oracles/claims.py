"""Who is asking what: claims on ledger keys among processes, which die with their owner.

A claim is a lock on one byte of an empty file, at an offset taken from the key. The kernel drops it with the process
that holds it, however that ends; nothing is written and nothing can be stale. Where a file system has no such locks
every claim is granted, and two processes that ask the same thing at the same moment both pay.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

_OFFSETS = 1 << 62
_USERS = _OFFSETS
_GATE = _OFFSETS + 1
_BUSY = (errno.EAGAIN, errno.EACCES)


class Claims:
    """The claims of one open ledger file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def take(self, key: bytes) -> bool:
        """Claim `key`; False where another process holds it."""
        return self._lock(fcntl.F_WRLCK, _offset(key))

    def release(self, key: bytes) -> None:
        self._lock(fcntl.F_UNLCK, _offset(key))

    def join(self) -> bool:
        """Become one of the users of the ledger; False while somebody repairs it."""
        return self._lock(fcntl.F_RDLCK, _USERS)

    def make_sole(self) -> bool:
        """Become the only user of the ledger; False where there are others."""
        return self._lock(fcntl.F_WRLCK, _USERS)

    def enter(self) -> bool:
        """Pass the gate that one process at a time opens the ledger behind; False while another is inside."""
        return self._lock(fcntl.F_WRLCK, _GATE)

    def leave(self) -> None:
        self._lock(fcntl.F_UNLCK, _GATE)

    def close(self) -> None:
        """Drop every claim."""
        os.close(self._file)

    def _lock(self, kind: int, offset: int) -> bool:
        try:
            _set_lock(self._file, kind, offset)
        except OSError as error:
            return error.errno not in _BUSY
        return True


def _offset(key: bytes) -> int:
    return int.from_bytes(key[:8], "big") % _OFFSETS


if hasattr(fcntl, "F_OFD_SETLK"):
    # Locks of the open file, not of the process: closing another handle on the file drops none of them.
    _FLOCK = struct.Struct("hhqqi4x")

    def _set_lock(file: int, kind: int, offset: int) -> None:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))

else:

    def _set_lock(file: int, kind: int, offset: int) -> None:
        command = {fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_UNLCK: fcntl.LOCK_UN}[kind]
        fcntl.lockf(file, command | fcntl.LOCK_NB if kind != fcntl.F_UNLCK else command, 1, offset, os.SEEK_SET)
