"""Directories that are whole or not there: sealed checkpoints inside a stage, finished students, their digests."""

import json
import os
import shutil
from hashlib import blake2b
from pathlib import Path

SEAL = "whole.json"
"""Written last into a checkpoint: the size of every file of it."""

NOTES = "tapir.json"
"""What the run keeps in a student's directory; no part of the student."""

_IDENTITY_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
_STEP_PREFIX = "checkpoint-"
_BLOCK = 1 << 20


def seal(directory: Path) -> None:
    """Mark `directory` as whole, once all its files are on disk."""
    sizes = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != SEAL:
            _sync(path)
            sizes[path.relative_to(directory).as_posix()] = path.stat().st_size
    draft = directory / f"{SEAL}.new"
    draft.write_text(json.dumps(sizes), encoding="utf-8")
    _sync(draft)
    draft.replace(directory / SEAL)
    _sync(directory)


def is_whole(directory: Path) -> bool:
    """Whether `directory` was sealed and still holds every file at its size."""
    try:
        sizes = json.loads((directory / SEAL).read_text(encoding="utf-8"))
        return all((directory / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def newest_whole(work: Path) -> Path | None:
    """The checkpoint of the latest training step in `work` that is whole; None where there is none."""
    found = [path for path in work.glob(f"{_STEP_PREFIX}*") if path.name.removeprefix(_STEP_PREFIX).isdigit()]
    for path in sorted(found, key=step_of, reverse=True):
        if is_whole(path):
            return path
    return None


def step_of(checkpoint: Path) -> int:
    """The training step after which `checkpoint` was written."""
    return int(checkpoint.name.removeprefix(_STEP_PREFIX))


def forget_checkpoints(work: Path) -> None:
    """Remove every checkpoint in `work`, whole or torn."""
    for path in work.glob(f"{_STEP_PREFIX}*"):
        shutil.rmtree(path)


def publish(draft: Path, final: Path) -> None:
    """Move a finished directory into place, all at once."""
    for path in draft.rglob("*"):
        if path.is_file():
            _sync(path)
    if final.exists():
        shutil.rmtree(final)
    draft.replace(final)
    _sync(final.parent)


def student_digest(directory: Path) -> str:
    """Digest of the weights, the tokenizer and the configuration in a student's directory; not of its card."""
    state = blake2b(digest_size=16)
    for path in sorted(directory.iterdir()):
        if path.suffix in _IDENTITY_SUFFIXES and path.is_file() and path.name != NOTES:
            state.update(f"{path.name}\x00{path.stat().st_size}\x00".encode())
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    state.update(block)
    return state.hexdigest()


def _sync(path: Path) -> None:
    """Force a file's or directory's content to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
