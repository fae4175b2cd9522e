"""The run directory: stages that replay, students, the training mixtures, the manifest and the lock."""

from tapir.store.run import Round, RunStore
from tapir.store.step import Rows, Step

__all__ = ["Round", "Rows", "RunStore", "Step"]
