"""The main job: bare machines, from power-on to Ready nodes, by one command. The tests build on each other."""

import base64
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import pytest

from tests.docs_commands import commands
from tests.system.changes import (
    FOLLOW_SECONDS,
    LABELLED,
    behind_of,
    follow,
    follow_now,
    serve_edited,
    units_started,
    with_overlay,
)
from tests.system.cycles import (
    BOOT_SECONDS,
    all_are_up,
    arm_and_cycle,
    cycle,
    cycle_and_wait,
    first_to_say_more,
    reports_dropped,
    says,
    wait_until_booted_again,
    wait_until_each_says_more,
    write_passes,
)
from tests.system.installed import ASLEEP, looks
from tests.system.kubectl import IMAGE, SLEEPER, Kubectl, kubectl_of
from tests.system.lossy_wire import PERCENT, LossyWire
from tests.system.restoring import backup_of, bring_etcd_back, keys_of, restored
from tests.system.spine import CACHE, ROOT, Outcome, Site, leftovers, show_logs, wait_for
from tests.system.wire_tap import PROBE, Tap, found_in, in_all_forms, packets, secrets_of
from tests.tier import SOAK, Promise, rounds

pytestmark = pytest.mark.system

NAMES = ("w1", "w2")
ADDRESSES = {"w1": "10.77.0.101", "w2": "10.77.0.102"}
COMMITS = dict.fromkeys(NAMES, "firstlight: commit: ")
STARTED = dict.fromkeys(NAMES, "from here: root=PARTUUID=")
TO_DISK = {"w1": "firstlight: looking for its disk", "w2": "firstlight: starting the boot loader of its disk"}
LOGINS = {name: f"{name} login:" for name in NAMES}
SSH_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
ENCRYPTION_KEY = re.compile(r'"secret": ?"([A-Za-z0-9+/=]{40,})"')
PORT = rb"\"readOnlyPort\": "
ON_DISK = {"installed", "joined", "ready"}


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(deploy=tmp_path_factory.mktemp("spine"), cache=CACHE)
    yield site
    site.run("down", timeout=120)


@pytest.fixture(scope="module", name="tap")
def fixture_tap(site: Site) -> Tap:
    """What listens on the wire during the first run."""
    return Tap(site, site.deploy / "wire.pcap")


@pytest.fixture(scope="module", name="first")
def fixture_first(site: Site, tap: Tap) -> Outcome:
    """The first run of the command, from nothing."""
    tap.start()
    try:
        return site.run()
    finally:
        tap.stop()


@pytest.fixture(autouse=True)
def _consoles(site: Site, request: pytest.FixtureRequest) -> Iterator[None]:
    """Show the ends of the consoles and logs when a test failed."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        show_logs(site)


def test_one_command_takes_both_machines_from_power_on_to_ready(first: Outcome, site: Site) -> None:
    """The command exits 0 and prints both machines as Ready nodes, one BIOS and one UEFI."""
    assert first.code == 0, first.err[-4000:]
    lines = [re.split(r"\s{2,}", line.strip()) for line in first.out.strip().splitlines()]
    assert [
        "NAME", "POOL", "STATE", "FIRMWARE", "ADDRESS", "DISK", "SINCE", "MESSAGE",
    ] == lines[0]  # fmt: skip
    assert ["w1", "workers", "ready", "bios", "10.77.0.101", "virtio-w1-root 8 GiB"] == lines[1][:6]
    assert ["w2", "workers", "ready", "uefi", "10.77.0.102", "virtio-w2-root 8 GiB"] == lines[2][:6]
    assert {"Ready, kubelet v1.20.2"} == {line[-1] for line in lines[1:]}
    assert {1} == {machine["attempts"] for machine in site.machines().values()}


def test_a_second_run_changes_nothing_and_says_so(first: Outcome, site: Site) -> None:
    """Nothing is made, restarted or installed again."""
    assert first.code == 0
    before = {name: machine["arm"] for name, machine in site.machines().items()}
    began = time.monotonic()

    second = site.run()

    assert second.code == 0, second.err
    assert "nothing changed" in second.err
    assert before == {name: machine["arm"] for name, machine in site.machines().items()}
    assert {1} == {machine["attempts"] for machine in site.machines().values()}
    assert time.monotonic() - began < 60, "a second run waits for nothing"


def test_kubectl_sees_what_status_shows(first: Outcome, site: Site) -> None:
    """Real nodes, Ready, by the kubeconfig that deploy.py prints; one certificate request each, by our own identity."""
    assert first.code == 0
    kubectl = kubectl_of(site)

    nodes = kubectl.data("get", "nodes")["items"]
    ready = {
        node["metadata"]["name"]: next(
            one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"
        )
        for node in nodes
    }
    assert dict.fromkeys(NAMES, "True") == ready
    asked = kubectl.data("get", "certificatesigningrequests")["items"]
    clients = [one for one in asked if one["spec"]["signerName"].endswith("kube-apiserver-client-kubelet")]
    assert {"firstlight:claims"} == {one["spec"]["username"] for one in clients}
    assert len(NAMES) == len(clients)


def test_pods_run_speak_and_reach_each_other(first: Outcome, site: Site) -> None:
    """Logs and exec go through the kubelets' own certificates; a pod reaches one on the other node, and a Service."""
    assert first.code == 0
    kubectl = kubectl_of(site)
    serve = "echo hello from $HOSTNAME; mkdir /tmp/www; echo page > /tmp/www/page; httpd -f -h /tmp/www"
    kubectl.run_pod("p1", node="w1", script=serve)
    kubectl.run_pod("p2", node="w2", script="sleep 3600")

    assert "hello from p1" == kubectl("logs", "p1")
    kubectl("expose", "pod", "p1", "--port=80", "--name=s1")
    service = kubectl("get", "service", "s1", "--output", "jsonpath={.spec.clusterIP}")
    for address in (kubectl.address("p1"), service):
        wait_for(partial(serves_page, kubectl, "p2", address), f"a page from {address}", timeout=60)
    kubectl("delete", "service", "s1")
    kubectl("delete", "pod", "p1", "p2", "--grace-period=1")


def serves_page(kubectl: Kubectl, pod: str, address: str) -> bool:
    """Return whether the web server at `address` gives its page to somebody in `pod`."""
    ask = f"printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80 | tail -n 1"
    return kubectl("exec", pod, "--", "sh", "-c", ask) == "page"


def test_nothing_secret_was_on_the_wire(first: Outcome, site: Site, tap: Tap, promise: Promise) -> None:
    """Two installs and joins and the making of a control plane, frame by frame: no key, in no form (T-01)."""
    assert first.code == 0
    secrets = secrets_of(site, dict.fromkeys(NAMES, ("/var/lib/firstlight/node.key", SSH_HOST_KEY)))
    encryption = site.in_machine("m1", "cat", "/etc/kubernetes/apiserver/encryption.yaml")
    secrets["the key of Secrets"] = in_all_forms(base64.b64decode(ENCRYPTION_KEY.findall(encryption)[0]))
    heard = {
        "the probe": {PROBE},
        "a boot": {b"GET /ipxe?mac=52-54-00-77-00-01"},
        "an Ignition": {b"GET /v1/ign"},
    }

    assert found_in(tap.capture, secrets) == []
    assert found_in(tap.capture, heard) == list(heard), "the harness finds what is there"
    for port in (22, 6443, 8443):
        assert packets(tap.capture, f"tcp port {port}") > 0
    assert tap.dropped == 0
    promise(
        promise="T-01 the wire",
        asked="every frame of an install and join: nothing secret",
        done=f"{packets(tap.capture, '')} packets, {tap.capture.stat().st_size >> 20} MiB, {len(secrets)} keys",
        found="0 of the keys, as bytes, hexadecimal or base64",
    )
    tap.capture.unlink()


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_system_is_what_the_configuration_says(first: Outcome, site: Site, name: str) -> None:
    """Hostname, root on the selected disk and grown to it, keys only, time and sleep settings, containerd."""
    assert first.code == 0
    seen = looks(site, name)

    assert (name, f"virtio-{name}-root") == (seen["hostname"], seen["disk"])
    assert seen["root"].startswith("/dev/vda")
    assert int(seen["bytes"]) > 7 * 1024**3, "the root file system fills the 8 GiB disk"
    assert "" == seen["with a password"]
    assert "passwordauthentication no" in seen["sshd"]
    assert ["masked"] * len(ASLEEP) == seen["asleep"].split()
    assert "enabled" == seen["time"]
    assert seen["containerd"].startswith("containerd ")
    assert len(seen["cni"].split()) > 5
    assert "" == seen["failed"]


def test_a_change_of_the_configuration_reaches_running_nodes(first: Outcome, site: Site) -> None:
    """Labels and taints come to the nodes and go again; only kubelet is restarted, no disk is written."""
    assert first.code == 0
    kubectl, passes = kubectl_of(site), {name: write_passes(site, name) for name in NAMES}
    containerd = units_started(site, "w1", "containerd.service", "kube-proxy.service")
    changed = with_overlay(site, LABELLED)

    done = changed.run()

    assert done.code == 0, done.err
    assert all(f"applied Node/{name}" in done.err for name in NAMES)
    assert kubectl.carried_by("w1") == kubectl.carried_by("w2") == ("a7", ["later"])
    follow(site, *NAMES)
    assert "--node-labels=rack=a7" in site.in_machine("w1", "cat", "/etc/kubernetes/kubelet.env")
    assert containerd == units_started(site, "w1", "containerd.service", "kube-proxy.service")
    assert site.run().code == 0
    assert kubectl.carried_by("w1") == kubectl.carried_by("w2") == ("", [])
    follow_now(site, *NAMES)
    assert passes == {name: write_passes(site, name) for name in NAMES}


def test_a_broken_change_is_taken_back_by_the_node_itself(first: Outcome, site: Site) -> None:
    """A kubelet that does not start with what it is served goes on with what it had, and `status` says so."""
    assert first.code == 0
    document, before = "machines/w2/node.json", site.machine("w2")["running"]["revision"]
    good = (site.work / "bundle" / document).read_bytes()
    serve_edited(site, document, lambda text: text.replace(PORT, PORT + b"99999"))

    wait_for(lambda: "did not get well" in behind_of(site, "w2"), "w2 went back", timeout=FOLLOW_SECONDS)

    assert behind_of(site, "w2").startswith("; behind plan (revision ")
    assert site.machine("w2")["running"]["revision"] == before
    assert "ok" == site.in_machine("w2", "curl", "--silent", "http://127.0.0.1:10248/healthz")
    assert kubectl_of(site)("wait", "--for=condition=Ready", "node/w2", "--timeout=60s")
    serve_edited(site, document, lambda _: good)
    follow_now(site, *NAMES)
    assert "" == behind_of(site, "w2")


# README.md comes last: it cycles a machine, which the next test does too.
@pytest.mark.parametrize("document", ["docs/booting.md", "README.md"])
def test_the_commands_of_the_documentation_work_on_the_running_lab(
    first: Outcome, site: Site, document: str
) -> None:
    """Each command that the document marks as one for the lab exits 0; machines that it cycles are left to boot."""
    assert first.code == 0
    found = commands(ROOT / document, "lab")
    assert found
    before = site.machines()
    for words in found:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=site.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    cycled = [words[-1] for words in found if "cycle" in words]
    wait_until_booted_again(site, cycled, before)
    wait_for(lambda: all_are_up(site), "its nodes are Ready again", timeout=BOOT_SECONDS)


def test_each_reboot_with_the_network_first_boots_from_disk(
    first: Outcome, site: Site, promise: Promise
) -> None:
    """Off and on again: each boot is sent to its disk by our server and comes up from it; one write pass for ever."""
    assert first.code == 0
    reboots = rounds(ci=1, soak=10)
    before = says(site, TO_DISK)
    shown = {name: len(site.console(name)) for name in NAMES}
    for _ in range(reboots):
        cycle_and_wait(site, NAMES)

    for name, now in says(site, TO_DISK).items():
        since = site.console(name)[shown[name] :]
        machine = site.machine(name)
        assert machine["state"] in ON_DISK
        assert 1 == machine["attempts"]
        assert 1 == write_passes(site, name)
        assert reboots <= now - before[name], f"{name} was not sent to its disk by our server: {since[:9000]}"
    promise(
        promise="S-08 network first",
        asked="10 reboots, network first, BIOS and UEFI: 10 boots from disk, 1 write pass",
        done=f"{reboots} reboots of each machine",
        found=f"{reboots} of {reboots} boots from disk each, 1 write pass each",
    )


def test_a_retired_machine_leaves_the_cluster_and_its_pods_move(first: Outcome, site: Site) -> None:
    """Drained, its node deleted, its state retired, and the end of its access said; it comes back when armed again."""
    assert first.code == 0
    wait_for(lambda: all_are_up(site), "both run again after the reboots before", timeout=BOOT_SECONDS)
    kubectl = kubectl_of(site)
    kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=100s")
    kubectl("create", "deployment", "d1", f"--image={IMAGE}", "--replicas=0")
    kubectl("patch", "deployment", "d1", "--patch", SLEEPER)
    kubectl("cordon", "w1")
    kubectl("scale", "deployment", "d1", "--replicas=1")
    wait_for(lambda: kubectl.runs_on("d1") == {"w2"}, "its pod runs on w2", timeout=BOOT_SECONDS)
    kubectl("uncordon", "w1")

    done = site.run("machine", "retire", "w2", "--yes", timeout=400)

    assert done.code == 0, done.err
    assert "its certificate is not renewed any more, and ends at " in done.err
    assert site.machine("w2")["state"] == "retired"
    assert kubectl("get", "nodes", "--output", "name") == "node/w1"
    wait_for(lambda: kubectl.runs_on("d1") == {"w1"}, "its pod runs on w1", timeout=BOOT_SECONDS)
    kubectl("delete", "deployment", "d1", "--cascade=foreground")


def test_reboots_that_nobody_hears_of_never_cost_a_second_write(
    first: Outcome, site: Site, promise: Promise
) -> None:
    """All reports are lost from the end of an install on: each boot still ends in the machine's own system.

    In the soak that install goes over a wire that loses frames, as that of test_fault_wire does each time. In CI it
    is the machine that was retired before.
    """
    assert first.code == 0
    reboots, names = rounds(ci=1, soak=10), NAMES if SOAK else ("w2",)
    commit, start, login = ({name: text[name] for name in names} for text in (COMMITS, STARTED, LOGINS))
    passes = {name: write_passes(site, name) for name in names}
    commits = says(site, commit)
    with reports_dropped(site) as drop:
        with LossyWire(site.namespace, bridge="fl0").losing(PERCENT) if SOAK else nullcontext():
            arm_and_cycle(site, names)
            started, logins = says(site, start), says(site, login)
            for name in first_to_say_more(site, commit, commits):
                drop(ADDRESSES[name])
        wait_until_each_says_more(site, login, logins)
        for _ in range(reboots - 1):
            logins = says(site, login)
            cycle(site, names)
            wait_until_each_says_more(site, login, logins)
        for name in names:
            machine = site.machine(name)
            assert ("installing", 1) == (machine["state"], machine["attempts"]), "no report has come through"
            assert reboots == says(site, start)[name] - started[name], "each boot began in the installer"

    wait_for(lambda: all_are_up(site), "their own systems are heard", timeout=BOOT_SECONDS)
    for name in names:
        machine = site.machine(name)
        assert ("ready", 1) == (machine["state"], machine["attempts"])
        assert passes[name] + 1 == write_passes(site, name)
    promise(
        promise="S-08 network first, reports lost",
        asked="the same 10 reboots with every completion report dropped: 10 boots from disk, 1 write pass",
        done=f"an install of {' and '.join(names)} with {PERCENT if SOAK else 0:.0f} % of the frames lost, its restart "
        f"and {reboots - 1} power cycles, no report heard",
        found=f"{reboots} of {reboots} boots into their own systems each, 1 write pass each",
    )


def test_a_backup_is_taken_while_all_run(first: Outcome, site: Site) -> None:
    assert first.code == 0
    kubectl = kubectl_of(site)
    kubectl("create", "configmap", "before")

    assert 0 == site.run("backup", backup_of(site), timeout=120).code, "3 would be: without etcd"

    kubectl("create", "configmap", "after")


def test_down_leaves_nothing_behind(first: Outcome, site: Site) -> None:
    """No process, namespace, mount or file outside the work folder; keys and state stay; down twice is fine."""
    assert first.code == 0
    keys = keys_of(site)

    assert 0 == site.run("down", timeout=120).code
    assert [] == leftovers(site)
    assert keys == keys_of(site)
    assert (site.work / "state" / "state.db").stat().st_size > 0
    assert 0 == site.run("down", timeout=120).code


def test_up_after_a_restore_goes_on_from_the_disks(first: Outcome, site: Site) -> None:
    """Keys and state come from a backup, nothing is installed again; etcd goes back only by the printed steps."""
    assert first.code == 0
    passes = {name: write_passes(site, name) for name in NAMES}
    printed = restored(site, backup_of(site))

    again = site.run()

    assert again.code == 0, again.err
    assert passes == {name: write_passes(site, name) for name in NAMES}
    kubectl = kubectl_of(site)
    assert {"before", "after"} <= kubectl.names("configmaps")
    bring_etcd_back(site, printed)
    assert {"before"} == kubectl.names("configmaps") & {"before", "after"}
    assert 0 == site.run("down", timeout=120).code
    assert [] == leftovers(site)
