"""Loads or makes every key and certificate of the table; keeps what stands, never overwrites an authority."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from certs.errors import UnknownCertificate, WrongPassphrase
from certs.folder import Folder, Rehearsal
from certs.keyring import Keyring
from certs.pem import certificate_pem, key_pem, new_key
from certs.secret import Secret
from certs.settling import Settling
from certs.wanted import Wanted, WantedLeaf


class Keystore:
    """The folder of keys; each call rehearses in memory first, so that an error leaves every file as it was.

    A run that is killed while it writes leaves whole files only, keys before their certificates; the next run
    goes on from there.
    """

    def __init__(self, folder: Path | Folder) -> None:
        self._folder = Folder(folder) if isinstance(folder, Path) else folder

    def ensure(self, rows: Sequence[Wanted], now: datetime, passphrase: Secret | None = None) -> Keyring:
        """Make what is missing, issue again what `rows` or time changed, keep the rest; return all of it.

        Raises:
            CertsError: a file is damaged, a key is lost, the passphrase is wrong; nothing was written.
            UnusableFolder: a write failed; the files written so far are whole, and a new run goes on.
        """
        with self._folder.locked():
            return self._write(self._rehearse(rows, now, passphrase, renew=()))

    def renew(
        self,
        rows: Sequence[Wanted],
        now: datetime,
        passphrase: Secret | None = None,
        *,
        names: Collection[str] = (),
    ) -> Keyring:
        """Issue the leaves called `names` (none: every leaf) again for the keys they have; ensure the rest.

        Raises:
            UnknownCertificate: a name is no leaf of the table.
            CertsError: as `ensure`.
        """
        leaves = tuple(row.name for row in rows if isinstance(row, WantedLeaf))
        _check_names(names, leaves)
        with self._folder.locked():
            return self._write(self._rehearse(rows, now, passphrase, renew=names or leaves))

    def preview(self, rows: Sequence[Wanted], now: datetime, passphrase: Secret | None = None) -> Keyring:
        """Return what `ensure` would, and write nothing; keys made here are forgotten.

        Raises:
            CertsError: as `ensure`.
        """
        return self._rehearse(rows, now, passphrase, renew=()).keyring(rows)

    def brief(
        self, row: WantedLeaf, rows: Sequence[Wanted], now: datetime, passphrase: Secret | None = None
    ) -> tuple[bytes, Secret]:
        """Return a certificate for `row` and its key, both in PEM; neither is ever written.

        Raises:
            CertsError: as `ensure`; also when the authority's key needs a passphrase.
        """
        key = new_key()
        authority = self._rehearse(rows, now, passphrase, renew=()).authorities[row.issuer]
        return certificate_pem(authority.issue(row, key.public_key(), now=now)), key_pem(key)

    def _rehearse(
        self, rows: Sequence[Wanted], now: datetime, passphrase: Secret | None, *, renew: Collection[str]
    ) -> Settling:
        if passphrase == Secret(b""):
            raise WrongPassphrase("the passphrase is empty; give one, or none at all")
        run = Settling(
            rows=rows,
            shelf=Rehearsal(self._folder),
            root=self._folder.path,
            now=now,
            passphrase=passphrase,
            renew=frozenset(renew),
        )
        for row in rows:
            run.settle(row)
        return run

    def _write(self, run: Settling) -> Keyring:
        for name, content in run.shelf.written.items():
            self._folder.write(name, content)
        return run.keyring(run.rows)


def _check_names(names: Iterable[str], leaves: Collection[str]) -> None:
    for name in names:
        if name not in leaves:
            near = difflib.get_close_matches(name, leaves, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(leaves)}"
            raise UnknownCertificate(f"'{name}' is no certificate that can be renewed; {hint}")
