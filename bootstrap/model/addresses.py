"""Kinds of addresses: IPv4 addresses, networks and ranges, endpoints, URLs."""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainSerializer

from bootstrap.model.base import parsed, shown, text_of
from bootstrap.model.types import is_domain

LONGEST_URL = 2048
HIGHEST_PORT = 65535
_URL_TEXT = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")


def address_from(value: object) -> IPv4Address:
    """Return the IPv4 address in `value`.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, IPv4Address):
        return value
    text = text_of(value, fix="four numbers such as 192.168.1.20")
    try:
        return IPv4Address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IPv4 address; write {_address_fix(text)}") from None


def _address_fix(text: str) -> str:
    if "/" in text:
        return f"it without the prefix length such as {text.partition('/')[0] or '192.168.1.20'}"
    if ":" in text:
        return "four numbers such as 192.168.1.20 (IPv6 is not supported)"
    return "four numbers such as 192.168.1.20"


def interface_from(value: object) -> IPv4Interface:
    """Return the IPv4 address with the prefix length of its network in `value` (`192.168.1.20/24`).

    Raises:
        ValueError: it is none, or the prefix length is missing.
    """
    if isinstance(value, IPv4Interface):
        return value
    text = text_of(value, fix="address and prefix length such as 192.168.1.20/24")
    example = f"{text}/24" if _is(IPv4Address, text) else "192.168.1.20/24"
    if "/" in text and _is(IPv4Interface, text):
        return IPv4Interface(text)
    raise ValueError(
        f"{shown(text)} is not an address with its network; write the prefix length too such as {example}"
    )


def network_from(value: object) -> IPv4Network:
    """Return the IPv4 network in `value` (`10.2.0.0/16`).

    Raises:
        ValueError: it is none, or host bits are set.
    """
    if isinstance(value, IPv4Network):
        return value
    text = text_of(value, fix="address and prefix length such as 10.2.0.0/16")
    if "/" in text and _is(IPv4Network, text):
        return IPv4Network(text)
    if "/" in text and _is(IPv4Interface, text):
        raise ValueError(
            f"{shown(text)} is an address inside a network; write the network: {IPv4Interface(text).network}"
        )
    raise ValueError(
        f"{shown(text)} is not an IPv4 network; write address and prefix length such as 10.2.0.0/16"
    )


def _is(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def address_or_name_from(value: object) -> IPv4Address | str:
    """Return what `value` names: an IPv4 address, or a host name as text.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, IPv4Address):
        return value
    text = text_of(value, fix="an address or host name such as nas.lan")
    if _is(IPv4Address, text):
        return IPv4Address(text)
    if is_domain(text):
        return text
    raise ValueError(
        f"{shown(text)} is neither an IPv4 address nor a host name; write such as 192.168.1.5 or nas.lan"
    )


def san_from(value: object) -> str:
    """Return `value` if it can stand in a certificate as a name: an IPv4 address or a domain name (RFC 5280).

    Raises:
        ValueError: it cannot.
    """
    text = text_of(value, fix="an address or host name such as k8s.lan")
    if _is(IPv4Address, text) or is_domain(text):
        return text
    raise ValueError(
        f"{shown(text)} cannot stand in a certificate; write an IPv4 address or a host name such as k8s.lan"
    )


def endpoint_from(value: object) -> str:
    """Return the `host:port` in `value`; the host is an IPv4 address or a domain name, fit for a certificate.

    Raises:
        ValueError: it is none.
    """
    text = text_of(value, fix="host and port such as 192.168.1.10:6443")
    host, colon, port = text.rpartition(":")
    if not colon:
        host = text
    if not (_is(IPv4Address, host) or is_domain(host)):
        raise ValueError(
            f"{shown(text)} cannot stand in a certificate; write an IPv4 address or host name, and a port, "
            "such as 192.168.1.10:6443"
        )
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > HIGHEST_PORT:
        raise ValueError(f"{shown(text)} lacks a port from 1 to 65535; write {host}:6443")
    return text


def range_from(value: Any) -> tuple[IPv4Address, IPv4Address]:
    """Return the first and last address in `value`: `first-last`, or a network.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str) and "/" in value:
        network = network_from(value)
        return network[0], network[-1]
    if isinstance(value, tuple):
        return value
    parts = text_of(value, fix="first-last").split("-")
    if len(parts) != 2:  # noqa: PLR2004  # first and last
        raise ValueError(
            f"{shown(value)} is not a range; write first and last address such as 192.168.1.241-192.168.1.250"
        )
    return address_from(parts[0]), address_from(parts[1])


def url_from(value: object) -> str:
    """Return the http or https URL in `value`, without user or password.

    Raises:
        ValueError: it is none, or it holds a user or a password.
    """
    return _url(value, ("http", "https"), "https://mirror.example.net/path")


def https_from(value: object) -> str:
    """Return the https URL in `value`, without user or password.

    Raises:
        ValueError: it is none, or it holds a user or a password.
    """
    return _url(value, ("https",), "https://10.0.0.5")


def _url(value: object, schemes: tuple[str, ...], example: str) -> str:
    text = text_of(value, fix=f"a URL such as {example}")
    parts = _split(text)
    if parts is None or parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"{shown(text)} is not an {' or '.join(schemes)} URL; write such as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or a password; write them in their own keys, the password in a file")
    return text


def _split(text: str) -> SplitResult | None:
    if len(text) > LONGEST_URL or not _URL_TEXT.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _text(parse: Callable[[Any], object], form: str, example: str) -> tuple[Any, ...]:
    return parsed(parse, type="string", format=form, examples=[example])


Address = Annotated[IPv4Address, *_text(address_from, "ipv4", "192.168.1.20")]
AddressInNetwork = Annotated[IPv4Interface, *_text(interface_from, "ipv4interface", "192.168.1.20/24")]
Network = Annotated[IPv4Network, *_text(network_from, "ipv4network", "10.2.0.0/16")]
AddressOrName = Annotated[IPv4Address | str, *_text(address_or_name_from, "hostname", "192.168.1.5")]
CertificateName = Annotated[str, *_text(san_from, "hostname", "k8s.example.net")]
Endpoint = Annotated[str, *_text(endpoint_from, "host:port", "192.168.1.10:6443")]
Url = Annotated[str, *_text(url_from, "uri", "https://mirror.example.net/path")]
HttpsUrl = Annotated[str, *_text(https_from, "uri", "https://10.0.0.5")]
AddressPair = tuple[Address, Address]
"""First and last address, both inside, written as a list of two."""
AddressRange = Annotated[
    tuple[IPv4Address, IPv4Address],
    *_text(range_from, "ipv4range", "192.168.1.241-192.168.1.250"),
    PlainSerializer(lambda pair: f"{pair[0]}-{pair[1]}", return_type=str, when_used="json"),
]
"""First and last address, both inside, written as one text."""
