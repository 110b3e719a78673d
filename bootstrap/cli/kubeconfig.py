"""The verb that gives an administrator the way into the cluster: kubeconfig."""

import getpass
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bootstrap.cli.main import Call
from bootstrap.cli.passphrase import passphrase
from bootstrap.cli.results import stderr
from bootstrap.config import from_yaml, to_yaml
from bootstrap.disk import write_file
from bootstrap.errors import UsageError
from bootstrap.keys import FOLDER, ensure_keys, renew_keys
from bootstrap.kubernetes.kubeconfig import admin_kubeconfig, merged
from bootstrap.lab.door import door
from bootstrap.model import Cluster
from bootstrap.workplace import PRIVATE, Workplace
from certs.keyring import Keyring

ADMIN, GLASS = "admin", "super-admin"
OWNER_ONLY = 0o600
AUDIT_LOG = "audit.log"


@click.command()
@click.option(
    "--merge", is_flag=True, help="Put it into your own kubeconfig, of which a copy is kept, instead."
)
@click.option(
    "--break-glass", is_flag=True,
    help="As system:masters, whom no RBAC rule stops: for a cluster that has locked you out. It is written down.",
)  # fmt: skip
@click.pass_obj
def kubeconfig(call: Call, merge: bool, break_glass: bool) -> None:  # noqa: FBT001  # click calls it
    """Print the administrator's kubeconfig; its context is called firstlight-<cluster>.

    With a lab it leads through a port on this computer's loopback. --merge changes the first file of $KUBECONFIG, or
    ~/.kube/config, and makes our context the current one.
    """
    cluster = call.cluster()
    place = call.place(cluster)
    if not (place.work / FOLDER / f"{ADMIN}.crt").is_file():
        raise UsageError(f"cluster {place.name} has no certificates yet; `up` or `render` makes them")
    with place.locked():
        keyring = _keyring(cluster, place, GLASS if break_glass else ADMIN)
    row = GLASS if break_glass else ADMIN
    text = admin_kubeconfig(cluster, keyring, row=row, server=door(cluster, place.work)).reveal()
    ours = json.loads(text)
    if merge:
        _merge(ours)
    else:
        sys.stdout.write(to_yaml(ours))


def _keyring(cluster: Cluster, place: Workplace, row: str) -> Keyring:
    """Return the keyring with a good certificate of `row`; that of the break-glass one is made for each use."""
    now = datetime.now(UTC)
    if row == ADMIN:
        return ensure_keys(cluster, place.work, now, passphrase()).keyring
    keyring = renew_keys(cluster, place.work, now, passphrase(), names=(row,)).keyring
    note = {
        "time": now.isoformat(),
        "who": getpass.getuser(),
        "what": f"kubeconfig of {row} (system:masters)",
    }
    with (place.work / "log" / AUDIT_LOG).open("a") as log:
        log.write(json.dumps(note) + "\n")
    stderr().print(f"this kubeconfig is root in {place.name} until it expires; remove it when you are done")
    return keyring


def _merge(ours: dict[str, Any]) -> None:
    """Put `ours` into the user's own file; what was there is kept beside it."""
    named = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    path = Path(named) if named else Path.home() / ".kube" / "config"
    path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    old = path.read_bytes() if path.is_file() else b""
    theirs = from_yaml(old, str(path)) or {}
    if not isinstance(theirs, dict):
        raise UsageError(f"{path}: is no kubeconfig; move it away, or name another in $KUBECONFIG")
    try:
        text = to_yaml(merged(ours, theirs)).encode()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    if text == old:
        stderr().print(f"{path}: context {ours['current-context']} is in it already, nothing changed")
        return
    if old:
        copy = path.with_name(f"{path.name}.before-firstlight")
        write_file(copy, old, OWNER_ONLY)
        stderr().print(f"{copy}: what it was before")
    write_file(path, text, OWNER_ONLY)
    stderr().print(f"{path}: context {ours['current-context']} is in it, and is the current one")
