"""Why a certificate that stands must be issued again; None when it may stay."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from certs.authority import Authority, leaf_extensions, window
from certs.pem import PublicKey
from certs.wanted import WantedLeaf, sans_in_order

# Two thirds of the life gone: with 365 days, the operator has about four months to run the command again.
RENEW_AT = 3


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a certificate says, in words."""

    common_name: str
    organization: str | None
    sans: tuple[str, ...]
    issuer: str
    start: datetime
    end: datetime


def facts(certificate: x509.Certificate) -> Facts:
    """Return what `certificate` says."""
    return Facts(
        common_name=_attribute(certificate.subject, NameOID.COMMON_NAME) or "",
        organization=_attribute(certificate.subject, NameOID.ORGANIZATION_NAME),
        sans=_sans(certificate),
        issuer=_attribute(certificate.issuer, NameOID.COMMON_NAME) or "",
        start=certificate.not_valid_before_utc,
        end=certificate.not_valid_after_utc,
    )


def reason_to_issue(
    row: WantedLeaf,
    certificate: x509.Certificate,
    authority: Authority,
    public_key: PublicKey,
    *,
    now: datetime,
) -> str | None:
    """Return why `certificate` is not what `row` wants of `authority` at `now`, or None."""
    if certificate.public_key() != public_key:
        return "it did not belong to its key"
    if not is_issued_by(certificate, authority.certificate):
        return "another authority had issued it"
    return (
        _identity_differs(row, facts(certificate))
        or _profile_differs(row, certificate, authority, public_key)
        or reason_of_time(row, certificate, authority.certificate, now=now)
    )


def reason_of_time(
    row: WantedLeaf, certificate: x509.Certificate, issuer: x509.Certificate, *, now: datetime
) -> str | None:
    """Return why the validity of `certificate` asks for a new one at `now`, or None."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start > now:
        return f"it was valid only from {start:%Y-%m-%d %H:%M} UTC"
    if end - start > row.life:
        return f"it lived longer than {row.life.days} days"
    if end <= now:
        return f"it expired on {end:%Y-%m-%d}"
    # An authority near its own end can give no more time; trying each run would change files for nothing.
    if is_near_end(start, end, now) and window(row, issuer, now)[1] > end:
        return f"it expires on {end:%Y-%m-%d}"
    return None


def is_near_end(start: datetime, end: datetime, now: datetime) -> bool:
    """Tell whether a third or less of the life from `start` to `end` is left."""
    return (end - now) * RENEW_AT <= end - start


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether the issuer's name and key made this certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _identity_differs(row: WantedLeaf, old: Facts) -> str | None:
    if old.common_name != row.common_name:
        return f"CN {old.common_name} is now {row.common_name}"
    if old.organization != row.organization:
        return f"O {old.organization or 'none'} is now {row.organization or 'none'}"
    if old.sans != row.sans:
        return _sans_differ(old.sans, row.sans)
    return None


def _sans_differ(old: Iterable[str], new: Iterable[str]) -> str:
    added, gone = [san for san in new if san not in old], [san for san in old if san not in new]
    parts = [f"{word} {', '.join(sans)}" for word, sans in (("now with", added), ("without", gone)) if sans]
    return "; ".join(parts) or "names in another order"


def _profile_differs(
    row: WantedLeaf, certificate: x509.Certificate, authority: Authority, public_key: PublicKey
) -> str | None:
    wanted = {
        value.oid: (value, flag) for value, flag in leaf_extensions(row, public_key, authority.certificate)
    }
    found = {each.oid: (each.value, each.critical) for each in certificate.extensions}
    return None if wanted == found else "its usages or extensions differ from the table"


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    values = name.get_attributes_for_oid(oid)
    return str(values[0].value) if values else None


def _sans(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    plain = [each for each in addresses if isinstance(each, ipaddress.IPv4Address | ipaddress.IPv6Address)]
    return sans_in_order(names.get_values_for_type(x509.DNSName), plain)
