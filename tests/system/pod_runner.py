"""Runs a pod of our manifests with podman, field by field, on the network and below the folder of a test.

A field that this does not know fails the test: nothing of a manifest is left out in silence.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.container_bench import Store

KNOWN = {
    "automountServiceAccountToken", "enableServiceLinks", "hostNetwork", "dnsPolicy", "nodeSelector", "tolerations",
    "priorityClassName", "terminationGracePeriodSeconds", "securityContext", "initContainers", "containers", "volumes",
}  # fmt: skip
KNOWN_OF_CONTAINER = {
    "name", "image", "imagePullPolicy", "command", "args", "securityContext", "resources", "volumeMounts", "ports",
    "startupProbe", "readinessProbe", "livenessProbe",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PodRunner:
    """`node` stands for the node's /var/lib/firstlight, `images` maps the names of the manifest to what is here."""

    store: Store
    namespace: str
    node: Path
    images: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]]

    def start(self, deployment: Mapping[str, Any]) -> str:
        """Run the init containers to their end, then the container; return its name here."""
        name, spec = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
        assert set(spec) <= KNOWN
        volumes = {each["name"]: each for each in spec["volumes"]}
        for init in spec["initContainers"]:
            self.store.podman("run", "--rm", *self._options(init, volumes), *init.get("args", ()))
        (container,) = spec["containers"]
        grace = f"--stop-timeout={spec['terminationGracePeriodSeconds']}"
        called = f"pod-{name}"
        assert spec["hostNetwork"]
        self.store.podman("run", "--detach", f"--name={called}", grace, *self._options(container, volumes))
        return called

    def probe(self, called: str, deployment: Mapping[str, Any]) -> bool:
        """Return whether the readiness probe says yes."""
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return self.store.succeeds("exec", called, *container["readinessProbe"]["exec"]["command"])

    def _options(self, container: Mapping[str, Any], volumes: Mapping[str, Any]) -> list[str]:
        assert set(container) <= KNOWN_OF_CONTAINER
        confined = dict(container["securityContext"])
        capabilities = confined.pop("capabilities")
        assert confined.pop("readOnlyRootFilesystem")
        assert not confined.pop("allowPrivilegeEscalation")
        assert not confined.pop("privileged")
        user, group = confined.pop("runAsUser"), confined.pop("runAsGroup")
        assert confined.pop("runAsNonRoot") == (user != 0)
        assert not confined
        entry = [f"--entrypoint={json.dumps(container['command'])}"] if "command" in container else []
        mounts = [
            word for mount in container["volumeMounts"] for word in self._mount(mount, volumes[mount["name"]])
        ]
        return [
            *(f"--network=ns:/run/netns/{self.namespace}", "--read-only", "--read-only-tmpfs=false"),
            *(
                "--no-healthcheck",
                "--pull=never",
                "--security-opt=no-new-privileges",
                "--security-opt=label=disable",
            ),
            *(f"--cap-drop={name}" for name in capabilities["drop"]),
            *(f"--cap-add={name}" for name in capabilities.get("add", ())),
            *(f"--user={user}:{group}", *entry, *mounts, self.images[container["image"]]),
        ]

    def _mount(self, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> list[str]:
        target, mode = mount["mountPath"], "ro" if mount.get("readOnly") else "rw"
        if "emptyDir" in volume:
            assert volume["emptyDir"]["medium"] == "Memory"
            size = volume["emptyDir"]["sizeLimit"].removesuffix("Mi")
            return [f"--tmpfs={target}:rw,size={size}m"]
        folder = self._folder(volume)
        return [f"--volume={folder}:{target}:{mode}"]

    def _folder(self, volume: Mapping[str, Any]) -> Path:
        """Return the folder of a volume; made, as kubelet makes it."""
        if "hostPath" in volume:
            assert volume["hostPath"]["type"] == "DirectoryOrCreate"
            folder: Path = self.node / volume["hostPath"]["path"].removeprefix("/var/lib/firstlight/")
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        folder = (
            self.node / "projected" / volume["name"] / volume["projected"]["sources"][0]["secret"]["name"]
        )
        folder.mkdir(parents=True, exist_ok=True)
        for source in volume["projected"]["sources"]:
            (item,) = source["secret"]["items"]
            content = self.secrets[source["secret"]["name"]][item["key"]]
            (folder / item["path"]).write_bytes(base64.b64decode(content))
        return folder
