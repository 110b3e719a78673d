"""Takes events as web does: HTTPS with the cluster's own server certificate, only for pxe's client certificate."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.system.pxe_segment import SERVER, Segment, inside


class Received(list[dict[str, Any]]):
    """The events in the order of their arrival."""

    def kinds_of(self, mac: str) -> list[str]:
        """Return what was seen of one machine."""
        return [event["kind"] for event in self if event["mac"] == mac]


@contextmanager
def receiver(where: Segment, work: Path, address: str = SERVER) -> Iterator[Received]:
    """Listen on the appliance's HTTPS port in the server's namespace."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            assert self.path == "/v1/pxe/events"
            received.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    keys = work / "pki" / "provisioning"
    context.load_cert_chain(keys / "server.crt", keys / "server.key")
    context.load_verify_locations(work / "bundle" / "appliance" / "provisioning-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    with inside(where.server):
        server = ThreadingHTTPServer((address, 8443), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
