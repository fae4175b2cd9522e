"""A generation server in one file, for `student.vllm.command`: python fake_server.py MODEL PORT [ADAPTER-ARGUMENTS]."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

model, port = sys.argv[1], int(sys.argv[2])
names = {model, *(part.partition("=")[0] for part in sys.argv[3:] if "=" in part)}
asked: list[str] = []
healthy_at = time.monotonic() + float(os.environ.get("FAKE_DELAY_S", "0"))


class Handler(BaseHTTPRequestHandler):
    """Answers every chat with its own last words, backwards."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200 if time.monotonic() > healthy_at else 503, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        asked.append(text)
        if "break" in os.environ.get("FAKE_MODE", "") and len(asked) > 5:
            os._exit(3)
        if body["model"] not in names:
            self._send(404, {"error": {"message": f"no model {body['model']}"}})
        elif len(text) > 300:
            self._send(400, {"error": {"message": "maximum context length is 300"}})
        else:
            choice = {"message": {"role": "assistant", "content": text[::-1]}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": len(text)}
            self._send(200, {"choices": [choice], "usage": usage, "model": body["model"]})

    def log_message(self, *_: object) -> None: ...

    def _send(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    if os.environ.get("FAKE_MODE") == "dies":
        sys.exit("no kernel image is available for execution on the device")
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
