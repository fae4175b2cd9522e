"""The report as one HTML file: no script, no outside request, styles allowed by their digest alone."""

import os
from base64 import b64encode
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tapir.console import duration
from tapir.errors import RunError
from tapir.report import formats
from tapir.report.model import Report, read_report
from tapir.report.sections import Section, sections
from tapir.store.files import remove
from tapir.version import __version__

HERE = Path(__file__).parent


@cache
def environment() -> Environment:
    """The templates, with everything escaped that is not markup of ours."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        cell=formats.cell,
        duration=duration,
        moment=formats.moment,
        shown=formats.shown,
    )
    env.tests.update(figures=formats.is_figure)
    env.globals.update(version=__version__, excerpt_chars=formats.EXCERPT)
    return env


@cache
def style() -> str:
    """The style sheet."""
    return (HERE / "static" / "report.css").read_text(encoding="utf-8")


def policy(css: str) -> str:
    """A Content-Security-Policy under which nothing but this style sheet and inline drawings has any effect."""
    digest = b64encode(sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def render(report: Report) -> str:
    """The page of a report."""
    css = style()
    found: list[Section] = sections(report)
    template = environment().get_template("report.html")
    return template.render(report=report, sections=found, css=Markup(css), policy=policy(css))


def write_page(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run, whole or not at all; see `tapir.report.write_report`."""
    report = read_report(run)
    target = out or (run.parent if run.name == "manifest.json" else run) / "report.html"
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    page = render(report)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8", errors="replace")
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            remove(part)
        raise RunError(f"{target}: cannot be written ({error.strerror}); give another file with --out") from error
    return target
