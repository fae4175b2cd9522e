"""`import tapir`: its verbs, and what they cost to import."""

import subprocess
import sys
from pathlib import Path

import pytest

import tapir
from tapir.errors import TapirError


def test_every_name_of_the_package_is_there() -> None:
    assert {name for name in tapir.__all__ if not hasattr(tapir, name)} == set()
    assert dir(tapir) == sorted(tapir.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tapir.nothing  # type: ignore[attr-defined]


def test_verbs_stay_verbs_when_modules_of_their_names_are_imported(tmp_path: Path) -> None:
    code = (
        "import tapir, tapir.runner, tapir.serve, tapir.check, tapir.export\n"
        "from tapir.status import read_status\n"
        "for verb in (tapir.status, tapir.report, tapir.export):\n"
        "    try:\n"
        "        verb(__import__('pathlib').Path('nowhere'), *([1] if verb is tapir.export else []))\n"
        "    except tapir.TapirError as error:\n"
        "        print(error)\n"
        "print(tapir.status.read_status is read_status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    *errors, is_module_too = done.stdout.splitlines()
    assert len(errors) == 3 and all(error.startswith("nowhere: is no run directory") for error in errors)
    assert is_module_too == "True"
    assert issubclass(tapir.TapirError, TapirError)
