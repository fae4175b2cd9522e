"""What users need to test their own recipes: small students, scripted oracles, and a server that fails as it is told.

Everything here is loaded when it is asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "BatchDesk": "tapir.testing.batches",
    "FaultyServer": "tapir.testing.server",
    "GullibleJudge": "tapir.testing.scripted",
    "ScriptedOracle": "tapir.testing.scripted",
    "WorldServer": "tapir.testing.world",
    "TinyStudent": "tapir.testing.memory",
    "tiny_student": "tapir.testing.student",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
