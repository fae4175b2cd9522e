"""TAPIR: distil a large model's skills into a small one, taught what it finds hard.

The command line's verbs are functions here::

    import tapir

    cfg = tapir.load_config("my.yaml")
    tapir.run(cfg)
    print(tapir.status(cfg.directory).evaluation["tapir"].all)

Nothing heavy is imported before it is used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tapir.version import __version__

if TYPE_CHECKING:
    from tapir.check import check_config as check
    from tapir.config import RunConfig, load_config
    from tapir.errors import TapirError
    from tapir.evaluation.command import evaluate_student as evaluate
    from tapir.export import export_round as export
    from tapir.hub import push_round as push
    from tapir.report import write_report as report
    from tapir.runner import run_blocking as run
    from tapir.scoring import score_file as score
    from tapir.status import read_status as status

_HOMES = {
    "RunConfig": ("tapir.config", "RunConfig"),
    "TapirError": ("tapir.errors", "TapirError"),
    "check": ("tapir.check", "check_config"),
    "evaluate": ("tapir.evaluation.command", "evaluate_student"),
    "export": ("tapir.export", "export_round"),
    "load_config": ("tapir.config", "load_config"),
    "push": ("tapir.hub", "push_round"),
    "report": ("tapir.report", "write_report"),
    "run": ("tapir.runner", "run_blocking"),
    "score": ("tapir.scoring", "score_file"),
    "status": ("tapir.status", "read_status"),
}

__all__ = [
    "RunConfig",
    "TapirError",
    "__version__",
    "check",
    "evaluate",
    "export",
    "load_config",
    "push",
    "report",
    "run",
    "score",
    "status",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tapir' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Verb(ModuleType):
    """A module that has the name of a verb (`tapir.status`): to call it is to call the verb."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return __getattr__(self.__name__.removeprefix("tapir."))(*args, **settings)


class _Package(ModuleType):
    """This package: whoever imports a module sets it here under its name, in the place of the verb."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
