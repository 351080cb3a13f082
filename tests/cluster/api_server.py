"""An API server of Kubernetes that knows no schema: it records all that is created."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ApiServer:
    """What spark-submit has asked of it.

    Attributes
    ----------
    url : str
    created : list of dict
        Objects, in the order in which they were created or applied.
    """

    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """List the objects of a kind."""
        return [created for created in self.created if created["kind"] == kind]


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Serve on a free port of loopback until the block ends."""
    recorded = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": []}
            found["metadata"] = {"resourceVersion": "1"}
            if self.command in ("POST", "PATCH"):
                found = json.loads(sent)
                found["metadata"] |= {"uid": "1", "resourceVersion": "1"}
                recorded.created.append(found)
            data = json.dumps(found).encode()
            self.send_response(201 if self.command == "POST" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorded.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield recorded
        finally:
            server.shutdown()
