"""Renders the documents of machines that were accepted here, as deploy.py renders those of the configuration."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bootstrap import accepted
from bootstrap.disk import holding
from bootstrap.errors import PreflightError, StateError
from bootstrap.joining import AUTHORITY, joining
from bootstrap.kubernetes.pod_network import routes_in
from bootstrap.model import Cluster, Machine
from bootstrap.records.documents import INSTALLED, LIVE, NODE
from bootstrap.records.model import Accepted
from bootstrap.render.machines import installed_document, live_document
from bootstrap.render.node import Joining, own_document, shared_document
from certs.keyring import PublicKeyring

AUTHORITY_FILE = Path("pki/ca.crt")
MOST_NAMED = 3


def machine_documents(
    cluster: Cluster, machines: Iterable[Machine], ca: bytes, how: Joining | None
) -> dict[tuple[str, str], bytes]:
    """Return the documents of `machines` by MAC and kind; with `how` they become nodes.

    Raises:
        RenderError: a machine has no pod subnet.
    """
    found: dict[tuple[str, str], bytes] = {}
    for machine in machines:
        found[machine.mac, LIVE] = live_document(cluster, machine, ca)
        found[machine.mac, INSTALLED] = installed_document(cluster, machine, ca, how)
        if how:
            found[machine.mac, NODE] = own_document(cluster, machine, how)
    return found


def shared(how: Joining | None) -> bytes:
    """Return the document that all nodes have alike, with the accepted ones in it; empty if machines do not join."""
    return shared_document(how) if how else b""


def refuse_moved_subnets(rendered: bytes, how: Joining | None) -> None:
    """Refuse to serve documents in which a node has another pod subnet than `how`, which all appliances share, says.

    `rendered` is the document that all nodes have alike, as deploy.py rendered it. The node would use a subnet that
    is another's by now.

    Raises:
        StateError: it names such nodes, by their addresses, and what to do.
    """
    before, now = (routes_in(text) for text in (rendered, how.network.routes if how else b""))
    moved = [
        f"{at} {before[at]} -> {now[at]}" for at in sorted(before) if at in now and now[at] != before[at]
    ]
    if moved:
        named = ", ".join(moved[:MOST_NAMED]) + (", ..." if len(moved) > MOST_NAMED else "")
        raise StateError(
            f"the documents were rendered with pod subnets that are given out otherwise by now ({named}): "
            "run deploy.py render again, then start or reload the appliance"
        )


def read_joining(records: Path, cluster: Cluster) -> Joining | None:
    """Return what machines of `cluster` need to join it; new ones get their pod subnet. In the work folder.

    `records` is where the list of pod subnets and that of programs are: the work folder, or a container's own.

    Raises:
        StateError: it cannot be read or written.
    """
    try:
        keyring = PublicKeyring(certificates={AUTHORITY: AUTHORITY_FILE.read_bytes()}, public_keys={})
        return joining(cluster, records, keyring)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}") from error
    except PreflightError as error:
        raise StateError(str(error)) from error


def keep_accepted(records: Path, found: Sequence[Accepted]) -> Sequence[Accepted]:
    """Write the accepted machines where deploy.py finds them; return them with those that only that copy still has.

    Raises:
        StateError: the file is damaged, or cannot be written.
    """
    try:
        with holding(records):  # deploy.py takes over what is written there
            whole = {one.mac: one for one in (*accepted.read(records), *found)}
            accepted.write(records, whole.values())
        return tuple(whole.values())
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}") from error
