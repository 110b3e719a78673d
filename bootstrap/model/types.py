"""Kinds of text that the configuration holds: names, MAC addresses, versions, keys."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator

from bootstrap.model.base import parsed, shown, text_of
from bootstrap.model.paths import from_base

_MAC = re.compile(r"[0-9a-f]{2}(?P<separator>[:-])[0-9a-f]{2}(?:(?P=separator)[0-9a-f]{2}){4}")
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_KUBERNETES = re.compile(r"v1\.(?:0|[1-9]\d?)\.(?:0|[1-9]\d?)(?:-[a-z]+\.\d+)?")
_CUDA = re.compile(r"\d{1,2}\.\d{1,2}")
_GPU = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ARGUMENT = re.compile(r"[A-Za-z0-9._:/=,@+-]{1,256}")
_DISK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}")
_BY_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")
_LABEL_KEY = re.compile(r"(?:(?P<prefix>[a-z0-9.-]{1,253})/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9._-]*(?::\d{1,5})?(?:/[a-z0-9][a-z0-9._-]*)*(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_NAME_OF_IMAGE = r"[a-z0-9][a-z0-9._-]*(?::\d{1,5})?(?:/[a-z0-9][a-z0-9._-]*)+(?::[\w][\w.-]{0,127})?"
_PINNED_IMAGE = re.compile(_NAME_OF_IMAGE + r"@sha256:[0-9a-f]{64}")
_REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}(?::\d{1,5})?")
_REGISTRY_PATH = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}(?::\d{1,5})?(?:/[a-z0-9][a-z0-9._-]{0,127}){0,8}")
_TAG = re.compile(r"v\d{1,3}\.\d{1,3}\.\d{1,3}")
_FILE = re.compile(r"[^\x00-\x1f\x7f]{1,4096}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")  # POSIX.1-2017, 8.1
_PATTERN = re.compile(r"[\x20-\x7e]{1,128}")
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_LENGTH = 4
_MAC_EXAMPLE = "52:54:00:aa:00:01"
LONGEST_DOMAIN = 253
"""Characters of a whole domain name (RFC 1035, section 3.1)."""


def mac_from(text: object) -> str:
    """Return the MAC address in `text` in lower case with colons (`52:54:00:aa:00:01`).

    Firmware writes it in upper case, iPXE with hyphens: both are read.

    Raises:
        ValueError: it is not six pairs of hexadecimal digits, or it names a group of machines (IEEE 802,
            lowest bit of the first byte).
    """
    mac = text_of(text, fix=f'six pairs of hex digits in quotes such as "{_MAC_EXAMPLE}"').lower()
    if not _MAC.fullmatch(mac):
        raise ValueError(
            f"{shown(text)} is not a MAC address; write six pairs of hex digits such as 52:54:00:aa:00:01"
        )
    if int(mac[:2], 16) & 1 or mac.strip("0:-") == "":
        raise ValueError(
            f"{shown(text)} is a multicast or empty MAC address; write that of the machine's network card"
        )
    return mac.replace("-", ":")


def name_from(text: object) -> str:
    """Return `text` if it is a host name label (RFC 1123: lower-case letters, digits, hyphens, at most 63).

    Raises:
        ValueError: it is not; the text holds a name that would do.
    """
    name = text_of(text)
    if _LABEL.fullmatch(name):
        return name
    better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "w1"
    raise ValueError(
        f"{shown(name)} is not a name by RFC 1123; write lower-case letters, digits and hyphens such as {better}"
    )


def is_domain(text: str) -> bool:
    """Return whether `text` is a domain name of RFC 1123 labels that cannot be taken for an IPv4 address."""
    labels = text.split(".")
    return (
        len(text) <= LONGEST_DOMAIN
        and all(_LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdigit()
    )


def domain_from(text: object) -> str:
    """Return `text` if it is a domain name.

    Raises:
        ValueError: it is not.
    """
    domain = text_of(text, fix="a name such as rack1.example.net")
    if is_domain(domain):
        return domain
    raise ValueError(
        f"{shown(domain)} is not a domain name; write lower-case labels with dots such as rack1.example.net"
    )


def _matching(pattern: re.Pattern[str], what: str, advice: str, fix: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = text_of(value, fix=fix)
        if pattern.fullmatch(text):
            return text
        raise ValueError(f"{shown(text)} is not {what}; write {advice}")

    return parse


def ssh_key_from(text: object) -> str:
    """Return the public key line in `text` (RFC 4253 6.6 in OpenSSH's form), blanks made single.

    Raises:
        ValueError: it is no such line, or of a type that OpenSSH no longer takes.
    """
    words = text_of(text, fix="the line of the .pub file: ssh-ed25519 AAAA...").split()
    if "PRIVATE" in words:
        raise ValueError("holds a private key; write the line of the .pub file and change that key now")
    kind, encoded = (*words, "", "")[:2]
    if kind not in _KEY_TYPES or not _holds_type(encoded, kind):
        raise ValueError(
            f"{shown(text)} is not a public SSH key; write the line of the .pub file: ssh-ed25519 AAAA..."
        )
    return " ".join(words)


def _holds_type(encoded: str, kind: str) -> bool:
    """Return whether `encoded` is a whole key of the type `kind`: fields, each after its length (RFC 4251, 5)."""
    try:
        rest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    fields = []
    while len(rest) >= _LENGTH:
        end = _LENGTH + int.from_bytes(rest[:_LENGTH], "big")
        fields.append(rest[_LENGTH:end])
        if end > len(rest):
            return False
        rest = rest[end:]
    return not rest and len(fields) > 1 and fields[0] == kind.encode()


def _kind(
    pattern: re.Pattern[str], what: str, advice: str, example: str | None = None, fix: str = '"{raw}"'
) -> tuple[Any, ...]:
    text = re.sub(r"\?P<\w+>", "?:", pattern.pattern)
    more = {"examples": [example]} if example else {}
    return parsed(_matching(pattern, what, advice, fix), type="string", pattern=f"^{text}$", **more)


Mac = Annotated[str, *parsed(mac_from, type="string", format="mac", examples=["52:54:00:aa:00:01"])]
"""A MAC address, lower case, colons."""

Name = Annotated[str, *parsed(name_from, type="string", pattern=f"^{_LABEL.pattern}$")]
"""A host name label (RFC 1123)."""

Domain = Annotated[str, *parsed(domain_from, type="string", examples=["rack1.example.net"])]
"""A domain name."""

SshKey = Annotated[str, *parsed(ssh_key_from, type="string", examples=["ssh-ed25519 AAAA... me"])]
"""A line of an authorized_keys file, without options."""

Interface = Annotated[
    str, *_kind(_INTERFACE, "the name of a network interface", "at most 15 characters such as eth0", "eth0")
]
User = Annotated[
    str, *_kind(_USER, "a user name", "lower-case letters, digits, - and _ such as core", "core")
]
KubernetesVersion = Annotated[
    str,
    *_kind(
        _KUBERNETES,
        "a Kubernetes version",
        "v, major, minor and patch such as v1.36.4",
        "v1.36.4",
        fix="v{raw}.0 or whichever patch release you want",
    ),
]
CudaVersion = Annotated[
    str, *_kind(_CUDA, "a CUDA version", 'major and minor in quotes such as "12.8"', '"12.8"')
]
GpuProduct = Annotated[
    str, *_kind(_GPU, "the name of a GPU", "lower-case letters, digits and - such as h100-sxm", "h100-sxm")
]
Release = Annotated[
    str, *_kind(_RELEASE, "a release of an operating system", 'such as "13" or 4593.2.5', '"13"')
]
KernelArgument = Annotated[
    str,
    *_kind(
        _ARGUMENT,
        "a safe kernel argument",
        "letters, digits and . _ : / = , @ + - such as console=ttyS1",
        "console=ttyS1",
    ),
]
DiskId = Annotated[
    str,
    *_kind(
        _DISK_ID,
        "a disk's serial number or WWN",
        "letters, digits and . _ : + - as lsblk shows it",
        "S6CKNE0T123456",
    ),
]
ByPath = Annotated[
    str,
    *_kind(
        _BY_PATH,
        "a name in /dev/disk/by-path",
        "only its last part such as pci-0000:3b:00.0-nvme-1",
        "pci-0000:3b:00.0-nvme-1",
    ),
]
Sha256 = Annotated[str, *_kind(_SHA256, "a SHA-256 sum", "64 lower-case hex digits as sha256sum prints them")]
Package = Annotated[str, *_kind(_PACKAGE, "the name of a Debian package", "such as tcpdump", "tcpdump")]
LabelKey = Annotated[
    str,
    *_kind(
        _LABEL_KEY,
        "a Kubernetes label key",
        "at most 63 letters, digits and . _ - such as gpu/kind",
        "gpu/kind",
    ),
]
LabelValue = Annotated[
    str,
    *_kind(
        _LABEL_VALUE, "a Kubernetes label value", "at most 63 letters, digits and . _ - such as h100", "h100"
    ),
]
ImageName = Annotated[
    str,
    *_kind(
        _IMAGE,
        "the name of a container image",
        "such as registry.example.net/pause:3.10",
        "registry.example.net/pause:3.10",
    ),
]
PinnedImage = Annotated[
    str,
    *_kind(
        _PINNED_IMAGE,
        "the name of a container image with its digest",
        "registry, path and digest such as registry.example.net/pause:3.10@sha256:<64 hex digits>",
        f"registry.example.net/pause:3.10@sha256:{'0' * 64}",
    ),
]
Registry = Annotated[
    str,
    *_kind(_REGISTRY, "the name of a registry", "its host such as registry.example.net", "registry.k8s.io"),
]
RegistryPath = Annotated[
    str,
    *_kind(
        _REGISTRY_PATH,
        "a place in a registry",
        "host and path, without https://, such as registry.example.net:5000/k8s",
        "registry.example.net:5000/k8s",
    ),
]
Tag = Annotated[
    str,
    *_kind(
        _TAG,
        "the version of a release",
        "v and three numbers such as v3.6.5",
        "v3.6.5",
        fix="v{raw}.0 or whichever patch release you want",
    ),
]
Word = Annotated[str, *_kind(_FILE, "a word of a command", "it without control characters")]
VariableName = Annotated[
    str,
    *_kind(_VARIABLE, "the name of an environment variable", "letters, digits and _ such as HOME", "HOME"),
]
FilePath = Annotated[
    str,
    *_kind(_FILE, "the name of a file", "a path such as secrets/bmc.pw"),
    BeforeValidator(from_base),  # pydantic asks the last one first
]
Pattern = Annotated[str, *_kind(_PATTERN, "plain text", "1 to 128 ASCII characters such as admin")]
