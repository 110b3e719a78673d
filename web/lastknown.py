"""What machines get while the store does not answer: from what this process heard of it last, and marked so.

Only stage A is served so: to boot the installer changes nothing, and the disk is written after `begin`, which the
store must grant.
"""

import hashlib
from dataclasses import replace

from bootstrap.boot import Boot
from bootstrap.errors import Conflict, StateError
from bootstrap.records.documents import LIVE, Document, key_of
from bootstrap.records.model import MachineRecord
from bootstrap.state import Shared
from web.site import Site

MARK = " - last-known state, the store does not answer"
WARNING = ("Warning", '110 firstlight "Response is Stale"')
"""RFC 7234, section 5.5.1: what comes may be of the past."""


def machine(site: Site, mac: str, failed: StateError | None = None) -> tuple[MachineRecord | None, bool]:
    """Return what is known of a machine, and whether that is of the past.

    A store on the network that has just `failed` is not asked again: a machine would wait for the same once more.

    Raises:
        StateError: the store cannot be read, and this process has not heard of the machine.
    """
    try:
        if failed is not None and not isinstance(failed, Conflict) and isinstance(site.store, Shared):
            raise failed
        return site.ledger.machine(mac), False
    except StateError:
        known = site.store.last_known(f"machine/{mac}") if isinstance(site.store, Shared) else None
        if known is None:
            raise
        return MachineRecord.from_bytes(known.value), True


def live_document(site: Site, mac: str) -> Document | None:
    """Return the machine's stage A document; one of the past says so.

    Raises:
        StateError: the store cannot be read, and this process has not heard of it.
    """
    try:
        return site.documents.get(mac, LIVE)
    except StateError:
        known = site.store.last_known(key_of(mac, LIVE)) if isinstance(site.store, Shared) else None
        if known is None:
            raise
        etag = hashlib.sha256(known.value).hexdigest()
        return Document(content=known.value, revision=known.revision, etag=etag, is_stale=True)


def marked(boot: Boot) -> Boot:
    """Return `boot` with a reason that says that it may be of the past."""
    return replace(boot, reason=f"{boot.reason}{MARK}")
