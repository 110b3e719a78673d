"""What a node gets to look at its GPUs with: by its pool, as served documents, and nothing where there are none."""

import subprocess
from typing import Any

import pytest

from bootstrap.gpu import fabric
from bootstrap.gpu.smi import QUERY
from bootstrap.gpu.table import BY_KEY
from bootstrap.kubernetes.gpu_agent import RESTARTS, SETTINGS, TIMER, files
from bootstrap.kubernetes.nodes import family_of, node_documents, restarts
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.kubernetes.subnets import allotment
from bootstrap.model import Pool
from tests import samples
from tests.unit.gpu.machines import pool


def text(found: Pool, path: str) -> str:
    content = dict(files(found))[path].content
    assert isinstance(content, bytes)
    return content.decode()


def settings(found: Pool) -> dict[str, str]:
    """Return the settings as a shell reads them."""
    script = text(found, SETTINGS) + "set | grep ^GPU_"
    done = subprocess.run(("sh", "-euc", script), capture_output=True, text=True, check=True, env={})
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key: value.strip("'") for key, _, value in pairs}


def test_a_pool_that_names_its_gpus_has_its_driver_in_the_settings() -> None:
    assert settings(pool(products=("h100-sxm",), expected=8)) == {
        "GPU_REQUIRED": "yes",
        "GPU_EXPECTED": "8",
        "GPU_INSTALL": "yes",
        "GPU_IDS": " ".join(BY_KEY["h100-sxm"].ids),
        "GPU_BRANCH": "570",
        "GPU_FLAVOUR": "open",
        "GPU_ROUTE": "sysext",
        "GPU_NAMES": "nvidia-drivers-570-open",
        "GPU_QUERY": QUERY,
        "GPU_FABRIC_QUERY": fabric.QUERY,
        "GPU_MIG": "",
    }


@pytest.mark.parametrize(
    ("gpu", "required"),
    [
        ({}, "yes"),
        ({"install_cuda": False}, "no"),
        ({"install_cuda": False, "expected": 1}, "yes"),
        ({"install_cuda": False, "products": ("t4",)}, "yes"),
    ],
)
def test_only_a_pool_that_wants_nothing_of_gpus_may_be_without(gpu: dict[str, Any], required: str) -> None:
    found = settings(pool(**gpu))

    assert found["GPU_REQUIRED"] == required


def test_a_pool_that_names_no_gpus_has_the_driver_in_the_settings_that_its_nodes_get_all_the_same() -> None:
    assert settings(pool())["GPU_BRANCH"] == "570"
    assert settings(pool(install_cuda=False))["GPU_BRANCH"] == ""


def test_a_pool_that_parts_its_gpus_has_the_profiles_in_the_settings_in_the_order_in_which_they_are_made() -> (
    None
):
    found = settings(pool(products=("h100-sxm",), mig=("1g.10gb", "3g.40gb", "1g.20gb")))

    assert found["GPU_MIG"] == "3g.40gb,1g.20gb,1g.10gb"
    assert settings(pool(products=("a30",), mig="2g.12gb"))["GPU_MIG"] == "2g.12gb,2g.12gb"
    assert 'gpu-mig" ] && . "${0%/*}/gpu-mig"' in text(pool(), "/opt/firstlight/bin/gpu")
    assert "part() {" in text(pool(), "/opt/firstlight/bin/gpu-mig")


def test_the_timer_has_the_interval_of_the_pool_and_is_wanted_at_every_start() -> None:
    assert "OnUnitInactiveSec=300s\nRandomizedDelaySec=30s\n" in text(pool(), f"/etc/systemd/system/{TIMER}")
    assert "OnUnitInactiveSec=3600s\n" in text(pool(check_interval=3600), f"/etc/systemd/system/{TIMER}")
    wants = text(pool(), "/etc/systemd/system/timers.target.d/10-firstlight-gpu.conf")
    assert wants == f"[Unit]\nWants={TIMER}\n"


def test_a_node_of_a_gpu_pool_gets_it_and_one_of_another_nothing_of_it() -> None:
    cluster = samples.cluster("example")
    network = laid_out(cluster, allotment(cluster))
    w1, w2 = (node_documents(cluster, machine, b"ca\n", network) for machine in cluster.machines[:2])

    ours = {path for path, _ in files(cluster.pool("gpu8"))}
    assert ours <= set(w1)
    assert not ours & set(w2)
    assert w1["/opt/firstlight/bin/gpu"].mode == 0o755
    machine = cluster.machine("w1")
    assert machine is not None
    named = restarts(w1, family_of(cluster, machine))
    assert list(named)[-2:] == list(RESTARTS)
    assert named[SETTINGS] == (TIMER,)


def test_a_pool_without_gpus_gets_nothing() -> None:
    assert dict(files(pool().model_copy(update={"gpu": None}))) == {}
