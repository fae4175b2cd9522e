"""The part of the Hugging Face hub that an upload needs, on this machine: repositories, LFS, commits."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Repository:
    """One repository."""

    is_private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    """The names of the files in each commit."""

    @property
    def head(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()


@dataclass
class Hub:
    """What the server holds, and what it was sent."""

    token: str
    writers: frozenset[str] = frozenset({"me"})
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By `models/OWNER/NAME` or `datasets/OWNER/NAME`."""
    stored: dict[str, bytes] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    """Every request's body."""
    url: str = ""
    breaks_at: str | None = None
    """The next request whose path holds this gets a 503."""


@contextmanager
def hub_server(hub: Hub) -> Iterator[Hub]:
    """The server, until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        do_PUT = do_POST

        def log_message(self, *_: object) -> None: ...

        def _answer(self, body: bytes) -> None:
            hub.bodies.append(body)
            path = self.path.partition("?")[0].strip("/")
            if hub.breaks_at and hub.breaks_at in path:
                hub.breaks_at = None
                return self._send(500, {"error": "out of order"})
            if path.startswith("stored/"):
                hub.stored[path.removeprefix("stored/")] = body
                return self._send(200, {})
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self._send(401, {"error": "Invalid user token."})
            status, found = _api(hub, path, body)
            return self._send(status, found)

        def _send(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _api(hub: Hub, path: str, body: bytes) -> tuple[int, Any]:
    """Status and answer of one call."""
    if path == "api/repos/create":
        return _create(hub, json.loads(body))
    if path == "api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if path.endswith(".git/info/lfs/objects/batch"):
        return 200, {"transfer": "basic", "objects": [_lfs_object(hub, one) for one in json.loads(body)["objects"]]}
    kind, owner, name, *verb = path.removeprefix("api/").split("/")
    repository = hub.repositories.get(f"{kind}/{owner}/{name}")
    if repository is None:
        return 404, {"error": "Repository not found"}
    match verb:
        case [] | ["revision", "main"]:
            siblings = [{"rfilename": name} for name in repository.files]
            info = {"_id": "1", "id": f"{owner}/{name}", "private": repository.is_private, "sha": repository.head}
            return 200, {**info, "siblings": siblings, "tags": [], "downloads": 0}
        case ["preupload", "main"]:
            return 200, {"files": [_mode(repository, one) for one in json.loads(body)["files"]]}
        case ["commit", "main"]:
            _commit(hub, repository, body)
            prefix = "datasets/" if kind == "datasets" else ""
            url = f"{hub.url}/{prefix}{owner}/{name}/commit/{repository.head}"
            return 200, {"commitUrl": url, "commitOid": repository.head}
        case _:
            return 404, {"error": f"no such call: {path}"}


def _create(hub: Hub, asked: dict[str, Any]) -> tuple[int, Any]:
    owner, kind = asked["organization"], asked.get("type", "model")
    if owner not in hub.writers:
        return 403, {"error": f'You don\'t have the rights to create a {kind} under the namespace "{owner}".'}
    key = f"{kind}s/{owner}/{asked['name']}"
    url = f"{hub.url}/{'datasets/' if kind == 'dataset' else ''}{owner}/{asked['name']}"
    if key in hub.repositories:
        return 409, {"error": "You already created this repo", "url": url}
    hub.repositories[key] = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
    return 200, {"url": url}


def _lfs_object(hub: Hub, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["oid"] in hub.stored:
        return asked
    return {**asked, "actions": {"upload": {"href": f"{hub.url}/stored/{asked['oid']}"}}}


def _mode(repository: Repository, asked: dict[str, Any]) -> dict[str, Any]:
    """How a file is to be sent, and what is held under its name."""
    is_large = asked["path"].endswith((".safetensors", ".jsonl"))
    held = repository.files.get(asked["path"])
    oid = None
    if held is not None:
        oid = hashlib.sha256(held).hexdigest() if is_large else _git_oid(held)
    mode = "lfs" if is_large else "regular"
    return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\x00" % len(content) + content).hexdigest()


def _commit(hub: Hub, repository: Repository, body: bytes) -> None:
    names = []
    for line in body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            repository.files[value["path"]] = hub.stored[value["oid"]]
        else:
            continue
        names.append(value["path"])
    repository.commits.append(names)
