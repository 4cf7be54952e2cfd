"""A real HTTP server with a script. In: what to answer, request by request. Out: an address, and what was asked."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Answer = tuple[int, dict[str, str], bytes]


def picture(seed: int, *, kind: str = "PNG", mode: str = "RGB", side: int = 8) -> bytes:
    """A picture file of one colour, another for another seed."""
    colour = (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256)
    written = io.BytesIO()
    Image.new("RGB", (side, side), colour).convert(mode).save(written, kind)
    return written.getvalue()


def ok(data: bytes) -> Answer:
    return say(200, {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode()}]})


def say(status: int, found: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **named}, json.dumps(found).encode()


def problem(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> Answer:
    """An error in OpenAI's form."""
    return say(status, {"error": {"message": message, "type": "error", "code": code, "param": param}}, **headers)


def by_seed(body: dict[str, Any]) -> Answer:
    return ok(picture(body.get("seed", 0)))


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the script."""


@dataclass
class Asked:
    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    at: float


@dataclass
class ImageServer:
    """Answers with ``script(body)``; ``calls`` holds what came in."""

    script: Callable[[dict[str, Any]], Answer] = by_seed
    calls: list[Asked] = field(default_factory=list)

    def __enter__(self) -> "ImageServer":
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 2**16  # head and body in one packet

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.calls.append(Asked(body, dict(self.headers), self.path, time.monotonic()))
                status, headers, content = server.script(body)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"
