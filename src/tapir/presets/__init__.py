"""Commented configurations to start from, one file each beside this one."""

from importlib import resources
from pathlib import Path

from tapir.errors import ConfigError

PRESETS = ("world", "keyless", "paper", "frugal")


def preset_text(name: str) -> str:
    """The YAML text of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: is not one of {', '.join(PRESETS)}")
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def write_preset(path: Path, name: str, *, force: bool = False) -> None:
    """Write a preset as a new configuration file.

    Raises:
        ConfigError: there is no such preset, the file exists and `force` is not set, or it cannot be written.
    """
    text = preset_text(name)
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already; choose another name, or use --force to replace it")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
