"""Signs: a certificate authority's own certificate, and any leaf row of the table."""

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import BadName, ExpiredAuthority, WrongPassphrase
from certs.pem import Key, PublicKey
from certs.wanted import Use, WantedCa, WantedLeaf

Extension = tuple[x509.ExtensionType, bool]  # and whether it is critical

_USES = {Use.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Use.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate and the key that signs with it; without a key (still encrypted) it can only check.

    `where` is the certificate's file, for error texts.
    """

    certificate: x509.Certificate
    key: Key | None = field(repr=False)
    where: str

    def issue(self, row: WantedLeaf, public_key: PublicKey, *, now: datetime) -> x509.Certificate:
        """Return a certificate for `public_key` with the row's names; it never outlives the authority.

        Raises:
            WrongPassphrase: the authority's key is still encrypted.
            ExpiredAuthority: the authority is not valid at `now`.
            BadName: a name of the row cannot stand in a certificate.
        """
        if self.key is None:
            raise WrongPassphrase(
                f"{self.where}: its key is encrypted; give the passphrase to issue {row.name}"
            )
        self._check_time(now)
        start, end = window(row, self.certificate, now)
        return _signed(
            subject=subject(row),
            issuer=self.certificate.subject,
            public_key=public_key,
            start=start,
            end=end,
            extensions=leaf_extensions(row, public_key, self.certificate),
            key=self.key,
        )

    def _check_time(self, now: datetime) -> None:
        start, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        if now >= end:
            raise ExpiredAuthority(
                f"{self.where}: expired on {end:%Y-%m-%d}; an authority is never replaced by itself: move "
                "its certificate, its key and all that it signed away, and a new one is made"
            )
        if now < start:
            raise ExpiredAuthority(
                f"{self.where}: is valid from {start:%Y-%m-%d %H:%M} UTC, but this computer's clock says "
                f"{now:%Y-%m-%d %H:%M}; set the clock"
            )


def self_signed(row: WantedCa, key: Key, *, now: datetime) -> x509.Certificate:
    """Return the certificate of a new authority, which signs leaves only (path length 0).

    Raises:
        BadName: the row's name cannot stand in a certificate.
    """
    start = now.replace(microsecond=0) - row.backdate
    return _signed(
        subject=subject(row),
        issuer=subject(row),
        public_key=key.public_key(),
        start=start,
        end=start + row.life,
        extensions=_authority_extensions(key.public_key()),
        key=key,
    )


def window(row: WantedLeaf, issuer: x509.Certificate, now: datetime) -> tuple[datetime, datetime]:
    """Return from when to when a certificate issued at `now` would be valid."""
    start = now.replace(microsecond=0) - row.backdate
    return start, min(start + row.life, issuer.not_valid_after_utc)


def subject(row: WantedCa | WantedLeaf) -> x509.Name:
    """Return the subject: O, if any, then CN.

    Raises:
        BadName: one of them is empty or longer than 64 characters (X.520 upper bounds).
    """
    pairs = ((NameOID.ORGANIZATION_NAME, row.organization), (NameOID.COMMON_NAME, row.common_name))
    try:
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs if text is not None])
    except ValueError:
        raise BadName(
            f"{row.name}: '{row.organization}' or '{row.common_name}' must have 1 to 64 characters"
        ) from None


def leaf_extensions(
    row: WantedLeaf, public_key: PublicKey, issuer: x509.Certificate
) -> tuple[Extension, ...]:
    """Return the extensions that a certificate for `row` carries (RFC 5280 4.2, and what webpki wants).

    Raises:
        BadName: a SAN cannot stand in a certificate.
    """
    uses = x509.ExtendedKeyUsage([_USES[use] for use in Use if use in row.uses])
    signer = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    names: tuple[Extension, ...] = ()
    if row.sans:
        names = ((x509.SubjectAlternativeName([_general_name(row, san) for san in row.sans]), False),)
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        # An EC key signs the handshake; keyEncipherment is for RSA key transport only (RFC 8422 5.3).
        (_key_usage(digital_signature=True), True),
        (uses, False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), False),
        *names,
    )


def _authority_extensions(public_key: PublicKey) -> tuple[Extension, ...]:
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(row: WantedLeaf, san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        pass
    try:
        return x509.DNSName(san)
    except ValueError:
        raise BadName(f"{row.name}: '{san}' is no DNS name; write it in ASCII (xn--...)") from None


def _signed(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: PublicKey,
    start: datetime,
    end: datetime,
    extensions: tuple[Extension, ...],
    key: Key,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for value, is_critical in extensions:
        builder = builder.add_extension(value, critical=is_critical)
    return builder.sign(key, hashes.SHA256())
