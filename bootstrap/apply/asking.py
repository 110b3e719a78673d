"""Asks one HTTPS question over a connection that SSH carries, to a host's own address if need be."""

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path

from bootstrap.model.kubernetes import Host
from bootstrap.ssh import Connections

ANSWER_SECONDS = 5.0
LONGEST = 200  # characters of an answer that an error repeats


@dataclass(frozen=True)
class Identity:
    """PEM files: the authority that the server's certificate must be of, and our own certificate and key."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Question:
    """What is asked: `address`:`port` as seen from the host, and the path.

    Without `identity` the server's certificate is not looked at: SSH has proven the host, and nothing secret is sent.
    """

    address: str
    port: int
    path: str
    identity: Identity | None = None


def ask(connections: Connections, host: Host, question: Question) -> str:
    """Return why the answer is not 200, or nothing if it is."""
    plain, process = connections.dial(host, question.address, question.port)
    plain.settimeout(ANSWER_SECONDS)
    try:
        with _context(question.identity).wrap_socket(plain, server_hostname=question.address) as secure:
            return _asked(secure, question.path)
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        plain.close()
        process.kill()
        process.wait()


def _asked(secure: ssl.SSLSocket, path: str) -> str:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = secure
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read(LONGEST).decode(errors="replace").strip()
    return "" if answer.status == http.HTTPStatus.OK else f"{answer.status} {body}"


def _context(identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if identity is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_verify_locations(identity.authority)
    context.load_cert_chain(identity.certificate, identity.key)
    return context
