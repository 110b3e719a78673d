"""WHAT DIFFERS BETWEEN KUBERNETES MINORS, as one table; nothing else here asks for a version.

Sources: the changelogs and feature gates of kubernetes/kubernetes, KEP-4633 (anonymous requests for health
alone: beta and on by default in 1.32, stable in 1.34), and for etcd what kubeadm of the same minor installs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from bootstrap.errors import RenderError

_MINOR = re.compile(r"v1\.(\d{1,2})\.\d{1,2}(?:-[a-z]+\.\d+)?")
_NEW_SOCKET = "containerRuntimeEndpoint"
SOCKET = "unix:///run/containerd/containerd.sock"
"""Where containerd answers on Debian, Flatcar and Fedora CoreOS alike."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A row of the table; flags are tuples of whole arguments (`--port=0`).

    `etcd` is the minor of etcd that it is made for, and `etcd_flags` what that etcd wants besides.
    `authentication` is the API version of AuthenticationConfiguration; without one the API server refuses every
    anonymous request, those for its health too. `scheduler` is that of KubeSchedulerConfiguration; without one
    its flags say the same. `kubelet_fields` go into KubeletConfiguration; `taints_field` says that taints do too,
    and are no flag. `csr_approver` is what kube-controller-manager
    calls the controller that would approve nodes by itself. `csr_usages` are what a request for a kubelet's
    client certificate must name. `has_expiration` says that such a request may ask for its own life.
    """

    minor: int
    etcd: str
    scheduler: str | None
    authentication: str | None
    csr_approver: str
    has_expiration: bool
    csr_usages: tuple[str, ...]
    etcd_flags: tuple[str, ...] = ()
    api_server_flags: tuple[str, ...] = ()
    controller_flags: tuple[str, ...] = ()
    scheduler_flags: tuple[str, ...] = ()
    kubelet_flags: tuple[str, ...] = ()
    kubelet_fields: Mapping[str, object] = field(default_factory=dict)
    taints_field: bool = True
    kubelet: str = "kubelet.config.k8s.io/v1beta1"
    proxy: str = "kubeproxy.config.k8s.io/v1alpha1"
    encryption: str = "apiserver.config.k8s.io/v1"
    audit: str = "audit.k8s.io/v1"

    @property
    def name(self) -> str:
        """Return the minor as people write it: v1.36."""
        return f"v1.{self.minor}"


_CLIENT = ("digital signature", "client auth")
# Later ones have it by themselves: a member that was cut off does not depose the leader when it comes back.
_ETCD_34 = ("--pre-vote=true",)
_ETCD_35 = ("--experimental-initial-corrupt-check=true", "--experimental-watch-progress-notify-interval=5s")
_ETCD_36 = ("--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s")
_GRACE = {"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"}

_V1_20 = Release(
    minor=20,
    etcd="3.4",
    etcd_flags=_ETCD_34,
    # Given a file (v1beta1), this scheduler serves its health without TLS on every address, whatever the flags say.
    scheduler=None,
    authentication=None,
    csr_approver="csrapproving",
    has_expiration=False,
    csr_usages=("digital signature", "key encipherment", "client auth"),
    # Ports without TLS still exist in this minor; 0 is the only number that says they must not.
    api_server_flags=("--insecure-port=0",),
    controller_flags=("--port=0",),
    scheduler_flags=("--port=0",),
    kubelet_flags=("--container-runtime=remote", f"--container-runtime-endpoint={SOCKET}"),
    taints_field=False,
)
_V1_32 = Release(
    minor=32,
    etcd="3.5",
    etcd_flags=_ETCD_35,
    scheduler="kubescheduler.config.k8s.io/v1",
    authentication="apiserver.config.k8s.io/v1beta1",
    csr_approver="certificatesigningrequest-approving-controller",
    has_expiration=True,
    csr_usages=_CLIENT,
    kubelet_fields=MappingProxyType({_NEW_SOCKET: SOCKET, **_GRACE}),
)
_V1_33 = replace(_V1_32, minor=33)
_V1_34 = replace(
    _V1_33, minor=34, etcd="3.6", etcd_flags=_ETCD_36, authentication="apiserver.config.k8s.io/v1"
)
_V1_35 = replace(_V1_34, minor=35)
_V1_36 = replace(_V1_35, minor=36)
_V1_37 = replace(_V1_36, minor=37)

RELEASES: Mapping[int, Release] = MappingProxyType(
    {row.minor: row for row in (_V1_20, _V1_32, _V1_33, _V1_34, _V1_35, _V1_36, _V1_37)}
)
"""The supported minors, oldest first: what Debian's source package builds, and those of the last two years."""


def minor_of(version: str) -> int:
    """Return the minor of a version such as v1.36.4.

    Raises:
        ValueError: it is no such version.
    """
    match = _MINOR.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no Kubernetes version")
    return int(match[1])


def release_of(version: str) -> Release:
    """Return the row for `version`; a checked configuration holds none that has no row.

    Raises:
        RenderError: there is no such row.
    """
    try:
        return RELEASES[minor_of(version)]
    except (KeyError, ValueError):
        raise RenderError(f"Kubernetes {version} is not supported; there are {supported()}") from None


def supported() -> str:
    """Return the supported minors for people: v1.20, v1.32 to v1.37."""
    spans: list[list[int]] = []
    for minor in sorted(RELEASES):
        if spans and minor == spans[-1][-1] + 1:
            spans[-1].append(minor)
        else:
            spans.append([minor])
    texts = (f"v1.{span[0]} to v1.{span[-1]}" if len(span) > 1 else f"v1.{span[0]}" for span in spans)
    return ", ".join(texts)
