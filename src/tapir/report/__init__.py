"""The report on a run: numbers from its directory, charts, and one self-contained page."""

from pathlib import Path

__all__ = ["write_report"]


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML page on a run; the default place is RUN/report.html.

    Works in every state of a run. The file is replaced whole or not at all.

    Raises:
        ResumeError: `run` is no run directory.
        RunError: a file of a whole stage is missing or torn.
    """
    from tapir.report.html import write_page  # templates and charts, which a run that only tells its progress spares

    return write_page(run, out)
