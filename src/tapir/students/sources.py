"""Where base models come from, and how to tell that one has changed."""

import os
import shutil
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp

from tapir.errors import StudentError

WORLD = "world"
HASHED_BYTES = 64 << 20
"""Files up to this size count by content, larger ones by name and size."""


def base_model(model: str) -> str:
    """The directory (absolute) or hub id that `student.model` names; `world` is the embedded world's base.

    Raises:
        StudentError: there is no such directory, the shipped weights of the world's base are damaged, or there is no
            place to write it.
    """
    if model == WORLD:
        return str(_world_base())
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.is_absolute() or model.startswith((".", "~")) or path.is_file():
        raise StudentError(
            f"student.model {model!r}: is no directory; give one with config.json and weights, or a hub id"
        )
    return model


def source_digest(source: str) -> str:
    """Digest of a model's directory, quick enough to take at every start; the id itself for a model on the hub."""
    path = Path(source)
    if not path.is_dir():
        return source
    state = blake2b(digest_size=12)
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            size = file.stat().st_size
            state.update(f"{file.name}\x00{size}\x00".encode())
            if size <= HASHED_BYTES:
                state.update(file.read_bytes())
    return state.hexdigest()


def _world_base() -> Path:
    """The world's base as a directory in the user's cache, written whole or not at all."""
    from tapir.version import __version__
    from tapir.world.student import BASE, base_student

    recipe = blake2b((BASE / "recipe.json").read_bytes(), digest_size=6).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapir"
    final = cache / f"world-base-{__version__}-{recipe}"
    if final.is_dir():
        return final
    try:
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(dir=cache))
    except OSError as error:
        raise StudentError(f"{cache}: cannot be written ({error}); set XDG_CACHE_HOME to a place that can") from error
    base_student(draft)
    try:
        draft.replace(final)
    except OSError:  # another process was first
        shutil.rmtree(draft)
    return final
