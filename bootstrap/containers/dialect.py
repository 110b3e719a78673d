"""Where podman and docker differ; everything else is the same command line for both."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EngineName = Literal["podman", "docker"]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One engine: how it is asked whether it works, and the options that only it has.

    `step` finds number, count and text of a build step in a line of its output; `remedies` maps what it says when it
    does not work to what to do.
    """

    name: EngineName
    works: tuple[str, ...]
    install: str
    build: tuple[str, ...]
    run: tuple[str, ...]
    step: re.Pattern[str]
    remedies: Mapping[str, str]
    build_remedies: Mapping[str, str]
    """As `remedies`, for what it says when a build fails."""
    build_environment: Mapping[str, str]
    joins_namespaces: bool
    """Whether a container can run in a network namespace that the engine did not make."""
    passes_proxies: bool
    """Whether a build gets the proxies of our environment without being asked."""


_NOT_PERMITTED = "run this as root"

DIALECTS: Mapping[EngineName, Dialect] = {
    "podman": Dialect(
        name="podman",
        works=("info", "--format", "{{.Host.OCIRuntime.Name}}"),
        install="apt-get install --no-install-recommends podman runc",
        # Docker's format: that of the OCI has no health check.
        build=("--format=docker", "--pull=missing"),
        run=("--read-only-tmpfs=false",),
        step=re.compile(r"STEP (?P<done>\d+)/(?P<total>\d+): (?P<what>.*)"),
        remedies={
            "executable file not found|OCI runtime": (
                "install a runtime: apt-get install runc, and name it in containers.conf (docs/containers.md)"
            ),
            "permission denied|not permitted": _NOT_PERMITTED,
        },
        build_remedies={},
        build_environment={},
        joins_namespaces=True,
        passes_proxies=True,
    ),
    "docker": Dialect(
        name="docker",
        works=("version", "--format", "{{.Server.Version}}"),
        install="apt-get install --no-install-recommends docker.io",
        build=("--progress=plain",),
        run=(),
        step=re.compile(r"^#\d+ \[[^\]]*?(?P<done>\d+)/(?P<total>\d+)\] (?P<what>.*)"),
        remedies={
            "Cannot connect|daemon running": "start it: systemctl start docker",
            "permission denied": _NOT_PERMITTED,
        },
        build_remedies={"buildx component is missing": "install it: apt-get install docker-buildx"},
        build_environment={"DOCKER_BUILDKIT": "1"},
        joins_namespaces=False,
        passes_proxies=False,
    ),
}

NO_BASE = re.compile(
    "image not known|manifest unknown|pull access denied|not found: manifest|failed to resolve|no such image"
    "|initializing source docker://|failed to do request|toomanyrequests",
    re.IGNORECASE,
)
"""What a build says when its base image is not here and cannot be pulled."""
