"""A page on this machine alone: the standard library's server, loopback address, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Lock
from typing import Any

from onelip.apps.digits.answer import Answers
from onelip.apps.digits.drawing import centred, drawing, typed
from onelip.core import errors

HOST = "127.0.0.1"
LONGEST = 2_000_000  # bytes of a request: 512 x 512 values of up to four characters, and room
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def reply(answers: Answers, body: Any) -> dict[str, Any]:
    """Answer a request: {"pixels": rows of 0 to 255} or {"key": "7"}, and perhaps {"to": class}.

    Raises:
        InputError: anything else.
    """
    if (
        not isinstance(body, dict)
        or len({"pixels", "key"} & set(body)) != 1
        or set(body) - {"pixels", "key", "to"}
    ):
        raise errors.InputError(
            errors.explain("the request is not understood", expected="pixels or key, and perhaps to")
        )
    to = body.get("to")
    if to is not None and (isinstance(to, bool) or not isinstance(to, int)):
        raise errors.InputError(errors.explain("`to` is no class", received=repr(to)[:40], expected="0 to 9"))
    picture = typed(body["key"]) if "key" in body else drawing(body["pixels"])
    return answers(centred(picture), to)


def serve(answers: Answers, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve the page until interrupted.

    Args:
        answers: of the model.
        port: 0: any free one.
        ready: called with the address.

    Raises:
        InputError: the port is taken.
    """
    try:
        server = Server(answers, port)
    except OSError as error:
        raise errors.InputError(
            errors.explain(
                f"port {port} cannot be used", received=error.strerror, fix="choose another --port, or 0"
            )
        ) from error
    with server:
        ready(server.address)
        server.serve_forever()


class Server(ThreadingHTTPServer):
    """Listens on this machine alone; explains one image at a time."""

    def __init__(self, answers: Answers, port: int) -> None:
        super().__init__((HOST, port), Handler)
        self.answers = answers
        self.lock = Lock()
        self.page = resources.files("onelip.apps.digits").joinpath("page.html").read_bytes()

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """Sends the page, and answers what it asks."""

    server: Server

    def do_GET(self) -> None:
        """Send the page."""
        if self._local() and self.path == "/":
            self._send(200, self.server.page, "text/html; charset=utf-8")
        else:
            self._send(404, b"not found", "text/plain")

    def do_POST(self) -> None:
        """Answer about an image."""
        length = self.headers.get("Content-Length", "")
        if not self._local() or self.path != "/answer":
            self._send(404, b"not found", "text/plain")
        elif not length.isdigit() or int(length) > LONGEST:
            self.rfile.read(
                min(int(length), 2 * LONGEST) if length.isdigit() else 0
            )  # or the answer is never read
            self.close_connection = True
            self._json(413, {"error": "the request is too long"})
        elif self.headers.get_content_type() != "application/json":
            self._json(415, {"error": "the request is no JSON"})
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, data: bytes) -> None:
        try:
            body = json.loads(data)
            with self.server.lock:
                found = reply(self.server.answers, body)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            self._json(400, {"error": "the request is no JSON"})
        except errors.OnelipError as error:
            self._json(400, {"error": str(error)})
        else:
            self._json(200, found)

    def _local(self) -> bool:
        """Whether the browser was sent here by this address: another name may belong to somebody else's page."""
        return self.headers.get("Host", "").rpartition(":")[0] in (HOST, "localhost")

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the base class's)
        """Print nothing: the terminal says where the page is."""
