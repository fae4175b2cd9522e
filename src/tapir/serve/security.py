"""Who may ask: the same machine, by its own name, from its own pages; what changes state needs the token too."""

import hmac
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapir.errors import ConfigError

TOKEN_HEADER = "x-tapir-token"
READING = frozenset({"GET", "HEAD"})

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
"""On every response."""


def check_loopback(host: str) -> None:
    """Only this machine may be listened on.

    Raises:
        ConfigError: `host` is reachable from other machines.
    """
    if host == "localhost":
        return
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"host {host!r}: the page shows a run's data to whoever reaches it, so it listens on this machine only; "
            "use 127.0.0.1, and `ssh -L 8732:127.0.0.1:8732 MACHINE` to see it from another"
        )


def names(host: str, port: int) -> frozenset[str]:
    """The values of the Host header that mean this server."""
    shown = f"[{host}]" if ":" in host else host
    return frozenset(f"{one}:{port}" for one in (shown, "localhost", "127.0.0.1", "[::1]"))


class Guard:
    """Refuses requests that come by another name or from another site, and sets the headers of every response."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], token: str) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self._refusal(str(scope["method"]), Headers(scope=scope))
        app = self._app if refusal is None else PlainTextResponse(refusal, status_code=403)
        await app(scope, receive, _with_headers(send))

    def _refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused; None for a good one."""
        if headers.get("host", "") not in self._hosts:
            return "This server answers to 127.0.0.1 and localhost only.\n"
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return "Requests from other sites are refused.\n"
        if method in READING:
            return None
        if origin is None:
            return "A request that changes something must say where it comes from (Origin).\n"
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            return "The token is missing or wrong: it stands in the line that `tapir serve` printed at its start.\n"
        return None


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return wrapped
