"""`tapir serve`: a run, or several, in the browser of this machine."""

import asyncio
import secrets
import socket
import threading
import webbrowser
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tapir.errors import RunError
from tapir.serve.library import Library
from tapir.serve.pages import application
from tapir.serve.security import Guard, check_loopback, names

PORT = 8732


def serve(path: Path, host: str = "127.0.0.1", port: int = PORT, open_browser: bool = False) -> None:
    """Show a run, or every run of a directory, until Ctrl-C. Port 0 takes a free one.

    Raises:
        ResumeError: there is no run at `path`.
        ConfigError: `host` is not this machine.
        RunError: the port is taken.
    """
    check_loopback(host)
    library = Library(path)
    token = secrets.token_urlsafe(16)
    listening = _listen(host, port)
    real_port = int(listening.getsockname()[1])
    address = f"http://{f'[{host}]' if ':' in host else host}:{real_port}/"
    print(f"tapir serve: {address}#token={token}", flush=True)
    print("The part after # lets this page write the report; everything else is read-only. Ctrl-C ends it.", flush=True)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [f"{address}#token={token}"]).start()
    server = uvicorn.Server(settings(guarded(library, host, real_port, token)))
    with listening:
        asyncio.run(server.serve(sockets=[listening]))


def guarded(library: Library, host: str, port: int, token: str) -> ASGIApp:
    """The application behind its guard."""
    return Guard(application(library), hosts=names(host, port), token=token)


def settings(app: ASGIApp) -> uvicorn.Config:
    """How the server runs: quiet, without a header that names it."""
    return uvicorn.Config(app, log_level="warning", server_header=False, lifespan="off", ws="none")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        what = error.strerror if isinstance(error, OSError) else "ports go from 0 to 65535"
        raise RunError(f"{host}:{port}: cannot be listened on ({what}); give another port, or 0") from error
    return found
