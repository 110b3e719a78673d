"""One pass over the table: finds what stands, makes what is missing, issues again what must be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509

from certs.authority import Authority, self_signed
from certs.errors import DamagedFile, LostKey
from certs.folder import Rehearsal
from certs.keyring import Change, Did, Keyring, PublicKeyring
from certs.pem import (
    Key,
    certificate_from,
    certificate_pem,
    is_encrypted,
    key_from,
    key_pem,
    new_key,
    public_pem,
)
from certs.review import is_issued_by, reason_to_issue
from certs.secret import Secret
from certs.wanted import Wanted, WantedCa, WantedKeyPair, WantedLeaf

_ASKED = "as asked"


@dataclass(kw_only=True)
class Settling:
    """One pass over the table, on a rehearsal of the folder."""

    rows: Sequence[Wanted]
    shelf: Rehearsal
    root: Path
    now: datetime
    passphrase: Secret | None
    renew: frozenset[str]
    authorities: dict[str, Authority] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def settle(self, row: Wanted) -> None:
        """Bring the files of `row` in order."""
        before = len(self.changes)
        match row:
            case WantedCa():
                self.authorities[row.name] = self._authority(row)
            case WantedLeaf():
                self._leaf(row)
            case WantedKeyPair():
                self._key_pair(row)
        if len(self.changes) == before:
            self._did(row.name, Did.KEPT)

    def keyring(self, rows: Iterable[Wanted]) -> Keyring:
        """Return what the shelf now holds for `rows`; CA keys stay behind."""
        rows = tuple(rows)
        certified = [row.name for row in rows if not isinstance(row, WantedKeyPair)]
        pairs = [row.name for row in rows if isinstance(row, WantedKeyPair)]
        public = PublicKeyring(
            certificates={name: self._held(f"{name}.crt") for name in certified},
            public_keys={name: self._held(f"{name}.pub") for name in pairs},
        )
        given = [row.name for row in rows if not isinstance(row, WantedCa) or row.is_on_hosts]
        keys = {name: Secret(self._held(f"{name}.key")) for name in given}
        return Keyring(public=public, keys=keys, changes=tuple(self.changes))

    def _authority(self, row: WantedCa) -> Authority:
        certificate = self._certificate(row.name, remedy="put the file back from a backup")
        pem = self._key_file(row.name)
        if pem is None:
            self._refuse_lost_authority(row, certificate)
            return self._new_authority(row, self._new_key(row.name, self._passphrase_of(row)), "")
        key = self._authority_key(row, pem)
        if certificate is None:
            key = key or key_from(pem, self.passphrase, where=self._where(f"{row.name}.key"))
            return self._new_authority(row, key, "its key stood alone")
        self._check_authority(row.name, certificate, key)
        return Authority(certificate=certificate, key=key, where=self._where(f"{row.name}.crt"))

    def _new_authority(self, row: WantedCa, key: Key, reason: str) -> Authority:
        certificate = self_signed(row, key, now=self.now)
        self.shelf.write(f"{row.name}.crt", certificate_pem(certificate))
        self._did(row.name, Did.MADE, reason)
        return Authority(certificate=certificate, key=key, where=self._where(f"{row.name}.crt"))

    def _authority_key(self, row: WantedCa, pem: Secret) -> Key | None:
        """Return the key, encrypting its file if a passphrase came new; None while it cannot be opened."""
        passphrase = self._passphrase_of(row)
        if is_encrypted(pem) and passphrase is None and not row.is_on_hosts:
            return None
        key = key_from(pem, passphrase, where=self._where(f"{row.name}.key"))
        if passphrase is not None and not is_encrypted(pem):
            self.shelf.write(f"{row.name}.key", key_pem(key, passphrase))
            self._did(row.name, Did.SEALED, "its key now needs the passphrase")
        return key

    def _passphrase_of(self, row: WantedCa) -> Secret | None:
        return None if row.is_on_hosts else self.passphrase

    def _check_authority(self, name: str, certificate: x509.Certificate, key: Key | None) -> None:
        where = self._where(f"{name}.crt")
        if not _may_sign(certificate):
            raise DamagedFile(f"{where}: is no certificate of an authority; put the file back from a backup")
        if key is not None and certificate.public_key() != key.public_key():
            raise LostKey(
                f"{where}: {name}.key is not the key of this certificate; put the pair back from a backup "
                "(neither file was touched)"
            )

    def _refuse_lost_authority(self, row: WantedCa, certificate: x509.Certificate | None) -> None:
        """Raise if the authority once was: a new one in its place would cut off all that trusts the old."""
        if certificate is not None:
            raise LostKey(
                f"{self._where(f'{row.name}.crt')}: its key {row.name}.key is missing; put it back from a "
                "backup, or move the certificate and all that it signed away to begin anew"
            )
        signed = [
            leaf.name
            for leaf in self.rows
            if isinstance(leaf, WantedLeaf)
            and leaf.issuer == row.name
            and self.shelf.read(f"{leaf.name}.crt")
        ]
        if signed:
            raise LostKey(
                f"{self._where(f'{row.name}.key')}: key and certificate are missing, but {signed[0]}.crt was "
                "issued by them; put both back from a backup, or move "
                f"{', '.join(f'{name}.crt' for name in signed)} away to begin anew"
            )

    def _leaf(self, row: WantedLeaf) -> None:
        pem = self._key_file(row.name)
        if pem is None:
            had_certificate = self.shelf.read(f"{row.name}.crt") is not None
            self._issue(
                row, self._new_key(row.name), Did.MADE, "its key was missing" if had_certificate else ""
            )
            return
        certificate = self._standing(row)
        key = key_from(pem, None, where=self._where(f"{row.name}.key"))
        reason = self._reason(row, certificate, key)
        if reason is not None:
            self._issue(row, key, Did.REISSUED if reason else Did.MADE, reason)

    def _issue(self, row: WantedLeaf, key: Key, did: Did, reason: str) -> None:
        issued = self.authorities[row.issuer].issue(row, key.public_key(), now=self.now)
        self.shelf.write(f"{row.name}.crt", certificate_pem(issued))
        self._did(row.name, did, reason)

    def _standing(self, row: WantedLeaf) -> x509.Certificate | None:
        """Return the certificate that stands; one to be renewed need not be readable."""
        try:
            return self._certificate(row.name, remedy="remove it, and a new one is issued for the same key")
        except DamagedFile:
            if row.name in self.renew:
                return None
            raise

    def _reason(self, row: WantedLeaf, certificate: x509.Certificate | None, key: Key) -> str | None:
        """Return why to issue, "" for a key that has no certificate yet, or None to keep what stands."""
        if row.name in self.renew:
            return _ASKED
        if certificate is None:
            return ""
        return reason_to_issue(row, certificate, self.authorities[row.issuer], key.public_key(), now=self.now)

    def _key_pair(self, row: WantedKeyPair) -> None:
        public = self.shelf.read(f"{row.name}.pub")
        pem = self._key_file(row.name)
        if pem is None and public is not None:
            raise LostKey(
                f"{self._where(f'{row.name}.pub')}: its key {row.name}.key is missing; put it back from a "
                "backup, or move the public key away to make a new pair (all tokens so far become invalid)"
            )
        where = self._where(f"{row.name}.key")
        key = self._new_key(row.name) if pem is None else key_from(pem, None, where=where)
        wanted = public_pem(key.public_key())
        if public is None:
            self.shelf.write(f"{row.name}.pub", wanted)
            self._did(row.name, Did.MADE)
        elif public != wanted:
            raise LostKey(f"{where}: is not the key of {row.name}.pub; put the pair back from a backup")

    def _new_key(self, name: str, passphrase: Secret | None = None) -> Key:
        key = new_key()
        self.shelf.write(f"{name}.key", key_pem(key, passphrase))
        return key

    def _key_file(self, name: str) -> Secret | None:
        """Return the key file's content, after closing it to others if it was open to them."""
        pem = self._secret(f"{name}.key")
        if pem is not None and self.shelf.is_open_to_others(f"{name}.key"):
            self.shelf.write(f"{name}.key", pem)
            self._did(name, Did.TIGHTENED, "other users could read its key")
        return pem

    def _secret(self, file: str) -> Secret | None:
        content = self.shelf.read(file)
        return None if content is None else Secret(content)

    def _certificate(self, name: str, *, remedy: str) -> x509.Certificate | None:
        content = self.shelf.read(f"{name}.crt")
        if content is None:
            return None
        return certificate_from(content, where=self._where(f"{name}.crt"), remedy=remedy)

    def _held(self, file: str) -> bytes:
        content = self.shelf.read(file)
        if content is None:
            raise DamagedFile(f"{self._where(file)}: vanished while it was used; run again")
        return content

    def _where(self, file: str) -> str:
        return str(self.root / file)

    def _did(self, name: str, did: Did, reason: str = "") -> None:
        self.changes.append(Change(name, did, reason))


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return False
    return basic.ca and is_issued_by(certificate, certificate)
