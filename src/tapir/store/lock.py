"""One process per run directory."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from tapir.errors import ResumeError


class Lock:
    """A lock that dies with its owner, however it dies (flock)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def __enter__(self) -> Self:
        if not self.acquire():
            owner = self._path.read_text(encoding="utf-8").strip() or "unknown"
            where = self._path.parent
            raise ResumeError(
                f"{where}: process {owner} is working on this run; wait for it or stop it, then try again"
            )
        return self

    def acquire(self) -> bool:
        """Take the lock; False where another process, or another object of this one, holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
