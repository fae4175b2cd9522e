"""OpenAI-style asynchronous batches for FaultyServer: /v1/files and /v1/batches."""

import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from tapir.testing.acts import Act, completion_body, status
from tapir.testing.server import FaultyServer


class BatchDesk:
    """Takes files and batches for `server`, and answers a batch's calls by the server's own plan when it is done.

    A batch is done when it has been looked at `looks` times and `gate` is open.
    """

    def __init__(self, server: FaultyServer, *, looks: int = 1, outcome: str = "completed") -> None:
        self.looks = looks
        self.outcome = outcome
        """The status that batches end with: completed, failed, expired or cancelled."""
        self.gate = threading.Event()
        self.gate.set()
        self.looked = threading.Event()
        """Set when a batch has been looked at."""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.uploads = 0
        self.requests: list[str] = []
        """Method and path of every request."""
        self.fails_next: list[Act] = []
        """Acts for the next requests, in place of what they ask for; a batch that is answered by a reset is started."""
        self._looked: dict[str, int] = {}
        self._server = server
        server.route("/v1/files", self._file)
        server.route("/v1/batches", self._batch)

    def calls_of(self, batch: str) -> list[dict[str, Any]]:
        """The requests in a batch."""
        return _lines(self.files[self.batches[batch]["input_file_id"]])

    def _file(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Act:
        self.requests.append(f"{method} {path}")
        if self.fails_next:
            return self.fails_next.pop(0)
        if method == "POST":
            self.uploads += 1
            name = f"file-{self.uploads}"
            self.files[name] = _uploaded(headers["content-type"], body)
            return _json({"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"})
        name = path.split("/")[3]
        if name not in self.files:
            return status(404, f"no such file: {name}")
        return Act(body=self.files[name], content_type="application/octet-stream")

    def _batch(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Act:
        self.requests.append(f"{method} {path}")
        if self.fails_next and self.fails_next[0].wire == "whole":
            return self.fails_next.pop(0)
        if method == "POST":
            act = self._create(msgspec.json.decode(body))
        elif path.startswith("/v1/batches?") or path == "/v1/batches":
            act = _json({"object": "list", "data": list(reversed(self.batches.values()))})
        else:
            act = self._look(path.split("/")[3])
        return self.fails_next.pop(0) if self.fails_next else act

    def _create(self, asked: dict[str, Any]) -> Act:
        if asked["input_file_id"] not in self.files:
            return status(400, "no such input file")
        name = f"batch_{len(self.batches) + 1}"
        self.batches[name] = {"id": name, "object": "batch", "status": "validating", **asked}
        return _json(self.batches[name])

    def _look(self, name: str) -> Act:
        batch = self.batches.get(name)
        if batch is None:
            return status(404, f"no such batch: {name}")
        self.looked.set()
        self._looked[name] = self._looked.get(name, 0) + 1
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "in_progress"
            if self._looked[name] >= self.looks and self.gate.is_set():
                self._finish(batch)
        return _json(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.outcome
        if self.outcome == "failed":
            batch["errors"] = {"data": [{"code": "invalid", "message": "the file is not valid"}]}
            return
        good: list[bytes] = []
        bad: list[bytes] = []
        for line in _lines(self.files[batch["input_file_id"]]):
            act = self._server.answer_call(line["url"], {}, msgspec.json.encode(line["body"]))
            if act.wire != "whole":
                continue
            whole = completion_body(act) if act.body is None else act.body
            response = {"status_code": act.status, "body": msgspec.Raw(whole)}
            (good if act.status == 200 else bad).append(
                msgspec.json.encode({"custom_id": line["custom_id"], "response": response, "error": None})
            )
        for kind, lines in (("output", good), ("error", bad)):
            if lines:
                name = f"file-{kind}-{batch['id']}"
                self.files[name] = b"\n".join(lines) + b"\n"
                batch[f"{kind}_file_id"] = name


def _json(tree: Any) -> Act:
    return Act(body=msgspec.json.encode(tree))


def _lines(data: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]


def _uploaded(content_type: str, body: bytes) -> bytes:
    """The content of the field `file` of a multipart form."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    for part in body.split(b"--" + boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content.removesuffix(b"\r\n")
    raise ValueError("the form holds no file")
