"""Where things lie in the mirror's folder; the layout of images is the one that their makers' installers expect."""

import re
from urllib.parse import urlsplit

ETCD = "etcd"
FILE_SHOWN = 12
"""Digits of a file's sum that keep it apart from others of its name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def program_path(version: str, name: str) -> str:
    """Return the place of a program of Kubernetes."""
    return f"kubernetes/{version}/{name}"


def etcd_path(version: str, name: str) -> str:
    """Return the place of a program of etcd."""
    return f"{ETCD}/{version}/{name}"


def cni_folder(version: str) -> str:
    """Return how the place of everything of one release of the CNI plugins begins."""
    return f"cni-plugins/{version}/"


def image_name(image: str) -> str:
    """Return the file name of a container image: what names it, and the begin of its digest."""
    name, _, digest = image.partition("@sha256:")
    return f"{re.sub(r'[^a-z0-9.-]+', '-', name.lower())}-{digest[:12]}.tar"


def image_path(image: str) -> str:
    """Return the place of a container image."""
    return f"images/{image_name(image)}"


def file_name(url: str) -> str:
    """Return what a file that is named by its URL is called."""
    name = urlsplit(url).path.rpartition("/")[2]
    return name if _NAME.fullmatch(name) else "file"


def file_path(url: str, sha256: str) -> str:
    """Return the place of a file that is named by its URL and its sum."""
    return f"files/{sha256[:FILE_SHOWN]}/{file_name(url)}"
