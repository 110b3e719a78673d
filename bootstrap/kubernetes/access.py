"""How a cluster is reached, and who signs the certificates of its kubelets."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Signer(StrEnum):
    """The signers of kubelets' certificates ("Kubernetes signers" of kubernetes.io)."""

    CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
    SERVING = "kubernetes.io/kubelet-serving"


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach a cluster: `https://` URLs of its API servers, and PEM files of its CA and of a client."""

    servers: tuple[str, ...]
    authority: Path
    certificate: Path
    key: Path
