"""Runs the real kubectl with the kubeconfig that deploy.py gives out."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.spine import CACHE, Site

PROGRAM = CACHE / "kubernetes" / "current" / "kubectl"
IMAGE = "localhost/busybox:1"
PATIENCE_SECONDS = 300  # a pod on an emulated machine takes its time to come and to go
SLEEPER = json.dumps(
    {"spec": {"template": {"spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "busybox", "imagePullPolicy": "Never", "command": ["sleep", "3600"]}],
    }}}}
)  # fmt: skip
"""A patch of a deployment whose image is IMAGE: its pods sleep, and end at once."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl as the cluster's administrator."""

    kubeconfig: Path

    def __call__(self, *words: str) -> str:
        """Return what it prints; fail with what it says otherwise."""
        done = subprocess.run(
            [str(PROGRAM), "--kubeconfig", str(self.kubeconfig), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"kubectl {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def data(self, *words: str) -> dict[str, Any]:
        """Return what it prints as JSON."""
        found: dict[str, Any] = json.loads(self(*words, "--output", "json"))
        return found

    def names(self, kind: str) -> set[str]:
        """Return the names of all objects of a kind in the default namespace."""
        return {each["metadata"]["name"] for each in self.data("get", kind)["items"]}

    def run_pod(self, name: str, *, node: str, script: str) -> None:
        """Run a shell script in a pod on `node`, and wait until it is Ready."""
        spec = json.dumps({"spec": {"nodeName": node}})
        options = (f"--image={IMAGE}", "--image-pull-policy=Never", f"--overrides={spec}")
        self("run", name, *options, "--", "sh", "-c", script)
        self("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE_SECONDS - 10}s")

    def runs_on(self, deployment: str) -> set[str]:
        """Return the nodes of all pods once callers find the deployment's one; nothing before."""
        status = self.data("get", "deployment", deployment)["status"]
        pods = self.data("get", "pods")["items"]
        return (
            {pod["spec"].get("nodeName", "") for pod in pods}
            if status.get("availableReplicas") == 1
            else set()
        )

    def carried_by(self, node: str) -> tuple[str, list[str]]:
        """Return the label `rack` of a node ("" for none) and the keys of its taints."""
        found = self.data("get", "node", node)
        taints = [taint["key"] for taint in found["spec"].get("taints", [])]
        return found["metadata"]["labels"].get("rack", ""), taints

    def address(self, pod: str) -> str:
        """Return a pod's address."""
        return self("get", "pod", pod, "--output", "jsonpath={.status.podIP}")


def kubectl_of(site: Site) -> Kubectl:
    """Return the kubectl of a running site."""
    given = site.run("kubeconfig", timeout=60)
    assert given.code == 0, given.err
    path = site.deploy / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(given.out)
    return Kubectl(path)
