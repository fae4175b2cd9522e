"""The pages: what each address answers."""

from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tapir.errors import RunError, TapirError
from tapir.report import write_report
from tapir.report.html import HERE as REPORT
from tapir.report.html import environment as report_environment
from tapir.report.sections import sections
from tapir.serve.bench import bench_data, near_line
from tapir.serve.compare import compare
from tapir.serve.explorer import EXCERPT as LINE
from tapir.serve.explorer import Query, look
from tapir.serve.library import Library, OpenRun
from tapir.serve.live import Live, read_live
from tapir.serve.rowpage import read_row

HERE = Path(__file__).parent
STATIC = {
    "report.css": REPORT / "static" / "report.css",
    "serve.css": HERE / "static" / "serve.css",
    "live.js": HERE / "static" / "live.js",
    "bench.js": HERE / "static" / "bench.js",
    "common.js": HERE / "static" / "common.js",
}
"""The only files that are sent, by their names in addresses."""
TYPES = {".css": "text/css", ".js": "text/javascript"}
TEXT_CHARS = 4_000
"""Characters of a text that a row's page shows before `show all`."""
MOST_COMPARED = 8


@cache
def environment() -> Environment:
    """The report's templates and those of this package."""
    env = report_environment().overlay(loader=FileSystemLoader([HERE / "templates", REPORT / "templates"]))
    env.globals.update(line_chars=LINE, text_chars=TEXT_CHARS)
    return env


def page(template: str, /, **values: Any) -> HTMLResponse:
    """A rendered page."""
    text = environment().get_template(template).render(**values)
    return HTMLResponse(text.encode("utf-8", "replace"))


Handler = Callable[[Library, Request], Response]


def endpoint(library: Library, handler: Handler) -> Callable[[Request], Any]:
    """A handler in a thread of its own; what cannot be shown is said in a page, not in a traceback."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await run_in_threadpool(handler, library, request)
        except TapirError as error:
            response = page("error.html", library=library, run=None, tab="", message=str(error))
            response.status_code = 404
            return response

    return answer


def application(library: Library) -> Starlette:
    """All addresses. What takes a while the first time is done here, so that the first page need not wait for it."""
    for name in environment().list_templates():
        environment().get_template(name)
    pa.array([0])  # imports pandas, for half a second
    routes = [
        ("/", home, ["GET"]),
        ("/compare", comparison, ["GET"]),
        ("/static/{name}", static, ["GET"]),
        ("/run/{run}/", overview, ["GET"]),
        ("/run/{run}/live", live, ["GET"]),
        ("/run/{run}/rows", explorer, ["GET"]),
        ("/run/{run}/row/{id}", row, ["GET"]),
        ("/run/{run}/threshold", threshold, ["GET"]),
        ("/run/{run}/threshold.json", threshold_data, ["GET"]),
        ("/run/{run}/threshold/examples", threshold_examples, ["GET"]),
        ("/run/{run}/report", save_report, ["POST"]),
    ]
    return Starlette(routes=[Route(path, endpoint(library, handler), methods=how) for path, handler, how in routes])


def _run(library: Library, request: Request) -> OpenRun:
    return library.run(request.path_params["run"])


def home(library: Library, request: Request) -> Response:
    """All runs, or the one there is."""
    runs = library.runs()
    if library.is_single:
        return RedirectResponse(f"/run/{runs[0].name}/")
    return page("home.html", library=library, run=None, tab="runs", states=[(one, *_state(one)) for one in runs])


def _state(run: OpenRun) -> tuple[Live | None, str]:
    """The state of a run, or why it cannot be told: a damaged run must not hide the others."""
    try:
        return read_live(run.files(), run.status()), ""
    except TapirError as error:
        return None, str(error)


def overview(library: Library, request: Request) -> Response:
    """The report, live."""
    run = _run(library, request)
    version, report = run.report()
    now = read_live(run.files(), run.status())
    values = {"report": report, "sections": sections(report), "version": version, "live": now}
    return page("overview.html", library=library, run=run, tab="report", **values)


def live(library: Library, request: Request) -> Response:
    """What changes while a run goes: a fragment of the page."""
    run = _run(library, request)
    now = read_live(run.files(), run.status())
    response = page("live.html", run=run, live=now)
    response.headers["x-tapir-version"] = now.version
    response.headers["x-tapir-state"] = now.state
    return response


def explorer(library: Library, request: Request) -> Response:
    """A page of rows."""
    run = _run(library, request)
    query = Query.read(dict(request.query_params))
    found = look(run, query)
    return page("rows.html", library=library, run=run, tab="rows", found=found, sources=run.sources())


def row(library: Library, request: Request) -> Response:
    """One instruction through all stages."""
    run = _run(library, request)
    found = read_row(run, request.path_params["id"])
    if found is None:
        raise RunError(f"no stage of run {run.name} holds a row with the id {request.path_params['id']!r}")
    is_whole = request.query_params.get("whole") == "1"
    return page("row.html", library=library, run=run, tab="rows", row=found, most=None if is_whole else TEXT_CHARS)


def threshold(library: Library, request: Request) -> Response:
    """The threshold bench."""
    run = _run(library, request)
    return page("threshold.html", library=library, run=run, tab="threshold", is_ready=run.judgements() is not None)


def threshold_data(library: Library, request: Request) -> Response:
    """The numbers of the threshold bench."""
    run = _run(library, request)
    rows = run.judgements()
    if rows is None:
        raise RunError(f"run {run.name}: the judge has not finished D yet")
    return JSONResponse(bench_data(run.files(), rows))


def threshold_examples(library: Library, request: Request) -> Response:
    """Rows near the line: a fragment of the page."""
    run = _run(library, request)
    rows = run.judgements()
    try:
        line = float(request.query_params.get("delta", "2"))
    except ValueError as error:
        raise RunError("delta is not a number") from error
    if rows is None:
        raise RunError(f"run {run.name}: the judge has not finished D yet")
    above, below = near_line(run, rows, line, request.query_params.get("task", ""))
    return page("examples.html", run=run, above=above, below=below, delta=line)


def comparison(library: Library, request: Request) -> Response:
    """Several runs side by side."""
    names = list(dict.fromkeys(request.query_params.getlist("run")))[:MOST_COMPARED]
    reports = [library.run(name).report()[1] for name in names or [one.name for one in library.runs()][:MOST_COMPARED]]
    return page("compare.html", library=library, run=None, tab="compare", found=compare(reports))


def save_report(library: Library, request: Request) -> Response:
    """Write RUN/report.html."""
    return JSONResponse({"path": str(write_report(_run(library, request).directory))})


def static(library: Library, request: Request) -> Response:
    """A style sheet or a script of ours."""
    path = STATIC.get(request.path_params["name"])
    if path is None:
        raise RunError("there is no such file")
    return FileResponse(path, media_type=TYPES[path.suffix])
