"""What stands in a boot's way, as a table: what must be seen, what must be missing, the cause and the remedy; pure.

The first rule that holds is the diagnosis, so what came furthest stands first. Words in braces are filled in from the
boot (see `diagnosis.words`): name, mac, url, arch, firmware, file, status, reason, disk.
"""

from dataclasses import dataclass

ONCE = 20.0  # seconds after which firmware or iPXE, which ask at once, have had their time
LOADED = 180.0  # an initrd of 150 MB over 100 Mbit/s, with a whole rack at it
STARTED = 180.0  # a kernel with much memory and many cards
WRITTEN = 900.0  # as RULES of bootstrap/states.py: no slow link is silent for so long
FIRMWARE = 1200.0  # servers with much memory spend up to ten minutes in firmware


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way in which a boot ends.

    It holds if every mark of `seen` and none of `missing` is there, and nothing came for `patience` seconds. `is_well`
    says that nothing is wrong.
    """

    name: str
    seen: frozenset[str]
    missing: frozenset[str] = frozenset()
    cause: str
    remedy: str
    patience: float = 0.0
    is_well: bool = False


def _marks(text: str) -> frozenset[str]:
    return frozenset(text.split())


RULES: tuple[Rule, ...] = (
    Rule(
        name="alarm",
        seen=_marks("alarm"),
        cause="it is quarantined: {reason}",
        remedy="find out who asked; then machine retire {name}, and to install it anew: machine arm {name}",
    ),
    Rule(
        name="disk-missing",
        seen=_marks("failed:no-disk"),
        cause="the installer ran, and no disk of the machine is one that its pool's disk.select means: {reason}",
        remedy="compare the disks that it found (machine show {name}) with disk.select, or look for a disk that is "
        "not plugged in; then: machine arm {name}",
    ),
    Rule(
        name="install-failed",
        seen=_marks("failed"),
        cause="the installation ended: {reason}",
        remedy="remove the cause, then: machine arm {name}",
    ),
    Rule(
        name="ready",
        seen=_marks("ready"),
        cause="nothing is wrong: it runs from its disk, and its node is Ready",
        remedy="nothing to do",
        is_well=True,
    ),
    Rule(
        name="node-not-ready",
        seen=_marks("joined"),
        missing=_marks("ready script:install"),
        cause="it has joined, and the cluster does not call its node Ready",
        remedy="kubectl describe node {name}; on the machine: journalctl -u kubelet",
        patience=STARTED,
    ),
    Rule(
        name="not-joined",
        seen=_marks("claimed"),
        missing=_marks("joined ready"),
        cause="it has claimed its name, and the cluster has made no certificate for it",
        remedy="status says what the node waits for; log/serve.log says why",
        patience=ONCE,
    ),
    Rule(
        name="runs-from-disk",
        seen=_marks("booted"),
        cause="nothing is wrong: it has started from its disk",
        remedy="nothing to do; if it should be a node, status says what it waits for",
        is_well=True,
    ),
    Rule(
        name="not-restarted",
        seen=_marks("complete"),
        missing=_marks("another-boot"),
        cause="it is installed and was told to restart, and has not been seen since",
        remedy="look at its console; switch it off and on: power cycle {name}",
        patience=FIRMWARE,
    ),
    Rule(
        name="disk-does-not-start",
        seen=_marks("script:local"),
        missing=_marks("booted"),
        cause="it was sent to its disk, and the system there has not reported",
        remedy="its console says how far it came, and firmware that hangs may need another bootFromDiskMethod; "
        "if its disk was exchanged: machine arm {name} installs the new one",
        patience=FIRMWARE,
    ),
    Rule(
        name="write-failed",
        seen=_marks("attempt-failed"),
        missing=_marks("complete"),
        cause="a write pass did not come to its end: {reason}",
        remedy="look after the disk and its cable; the machine tries again while it has passes left",
        patience=FIRMWARE,
    ),
    Rule(
        name="installer-silent",
        seen=_marks("begin"),
        missing=_marks("complete attempt-failed"),
        cause="the installer began to write the disk and fell silent",
        remedy="its console shows where it is; switch it off and on: it goes on with the next of its three passes",
        patience=WRITTEN,
    ),
    Rule(
        name="installer-not-begun",
        seen=_marks("facts"),
        missing=_marks("begin"),
        cause="the installer reported what it found, and never asked to write",
        remedy="read its console: it names what it waits for",
        patience=STARTED,
    ),
    Rule(
        name="ignition-refused",
        seen=_marks("ignition-error"),
        missing=_marks("ignition-ok"),
        cause="its live system asked for its Ignition document and got {status}",
        remedy="500 and 503 are ours: log/serve.log says why; 404 means that it was not armed any more: "
        "machine show {name}",
    ),
    Rule(
        name="installer-not-heard",
        seen=_marks("ignition-ok"),
        missing=_marks("facts begin"),
        cause="it has its Ignition document, and its installer was never heard by HTTPS",
        remedy="its console says why: often the clock is far off, or a firewall between stops the port of {secure}",
        patience=STARTED,
    ),
    Rule(
        name="kernel-refused",
        seen=_marks("load-error"),
        missing=_marks("initrd-ok"),
        cause="iPXE asked for the {file}, and got {status}",
        remedy="404: the file is gone from the cache, image build makes it again; else log/serve.log",
    ),
    Rule(
        name="system-not-started",
        seen=_marks("script:install initrd-ok"),
        missing=_marks("ignition-ok ignition-error"),
        cause="kernel and initrd were loaded, and the live system never asked for its Ignition document",
        remedy="read its console: the kernel has no driver for its network card, got no address, or stopped",
        patience=STARTED,
    ),
    Rule(
        name="kernel-not-loaded",
        seen=_marks("script:install"),
        missing=_marks("initrd-ok ignition-ok ignition-error"),
        cause="it was told to install, and has not loaded kernel and initrd to their end",
        remedy="its console has iPXE's own reason; look for a slow or lossy link on its switch port",
        patience=LOADED,
    ),
    Rule(
        name="waits",
        seen=_marks("script:wait"),
        cause="it waits, and asks again every 30 seconds: {reason}",
        remedy="do what the reason says; it goes on by itself",
    ),
    Rule(
        name="left-alone",
        seen=_marks("script:leave"),
        cause="it was sent back to its firmware: {reason}",
        remedy="machine arm {name}, or list it under machines:, if it should be installed",
    ),
    Rule(
        name="script-refused",
        seen=_marks("script-error"),
        missing=_marks("script"),
        cause="iPXE asked what this machine should do, and got {status}",
        remedy="503: the appliance is starting, or its store is in trouble; log/serve.log says why",
    ),
    Rule(
        name="first-script-refused",
        seen=_marks("boot-script-error"),
        missing=_marks("boot-script-ok script"),
        cause="iPXE asked for /boot.ipxe and got {status}",
        remedy="run up again, which renders it anew; log/serve.log says more",
    ),
    Rule(
        name="certificate-not-believed",
        seen=_marks("https-refused:untrusted"),
        missing=_marks("boot-script-ok script"),
        cause="its iPXE takes its script by HTTPS alone, and does not believe our certificate ({reason}): it was built "
        "to trust another CA, or the machine's clock is far off",
        remedy="build it anew with bundle/appliance/provisioning-ca.crt of this cluster (docs/dhcp.md), or set the "
        "clock in its firmware",
    ),
    Rule(
        name="https-not-reached",
        seen=_marks("https-refused:failed"),
        missing=_marks("boot-script-ok script"),
        cause="its iPXE takes its script by HTTPS alone, and did not get it ({reason})",
        remedy="that page says why; let TCP to {secure} pass the firewall of this computer and of the switch",
    ),
    Rule(
        name="script-not-asked",
        seen=_marks("boot-script-ok"),
        missing=_marks("script script-ok"),
        cause="iPXE took /boot.ipxe, and never asked what this machine should do",
        remedy="read its console: iPXE names its reason; another network card may have got another address",
        patience=ONCE,
    ),
    Rule(
        name="http-blocked",
        seen=_marks("url-offered"),
        missing=_marks("boot-script-ok script"),
        cause="iPXE runs and was told {url}/boot.ipxe, and never asked for it: HTTP does not come through",
        remedy="let TCP to {url} pass the firewall of this computer and of the switch; in the machine's network: "
        "curl {url}/boot.ipxe",
        patience=ONCE,
    ),
    Rule(
        name="tftp-oack-unheard",
        seen=_marks("tftp-oack-unheard"),
        missing=_marks("ipxe-dhcp url-offered boot-script-ok"),
        cause="it asked for {file} with TFTP options, and never answered when they were granted (an OACK, RFC 2347)",
        remedy="restart it: pxe has noted it, and sends what it asks for next without options; if that does not come "
        "either, a firewall lets port 69 alone pass: machines[].tftp.singlePort (docs/dhcp.md)",
        patience=ONCE,
    ),
    Rule(
        name="loader-does-not-start",
        seen=_marks("loader-sent"),
        missing=_marks("ipxe-dhcp url-offered boot-script-ok"),
        cause="{file} was sent to the end, and iPXE never asked for an address: the firmware (arch {arch}, {firmware}) "
        "does not start this loader",
        remedy="it is a loader for another processor or firmware (appliance.pxe.loader), or Secure Boot refuses it: "
        "switch Secure Boot off; if it stops at TFTP, it may need smaller blocks: machines[].tftp.maxBlockSize",
        patience=ONCE,
    ),
    Rule(
        name="loader-missing",
        seen=_marks("tftp-not-found"),
        missing=_marks("tftp-sent"),
        cause="it asked TFTP for {file}, which is not there",
        remedy="another DHCP server or a fixed boot file name in the firmware names it: remove that; for arm64 a "
        "loader must be named: appliance.pxe.loader (docs/dhcp.md)",
    ),
    Rule(
        name="tftp-cut",
        seen=_marks("tftp-failed"),
        missing=_marks("tftp-sent ipxe-dhcp"),
        cause="the transfer of {file} by TFTP was cut off",
        remedy="a firewall lets the question (UDP port 69) pass and not the data, which comes from another port: "
        "let UDP between this computer and the machine pass",
        patience=ONCE,
    ),
    Rule(
        name="tftp-blocked",
        seen=_marks("loader-offered firmware-request"),
        missing=_marks("tftp-sent tftp-failed tftp-not-found ipxe-dhcp"),
        cause="it was offered {file} and took the address, and no question for the file arrived: TFTP does not come "
        "through",
        remedy="let UDP port 69 pass the firewall of this computer and of the switch; if another DHCP server answers "
        "too, its boot server may have been taken",
        patience=ONCE,
    ),
    Rule(
        name="http-loader-missing",
        seen=_marks("loader-error"),
        missing=_marks("loader-sent ipxe-dhcp"),
        cause="its firmware asked for {file} by HTTP, and got {status}",
        remedy="404: we have no loader for it: appliance.pxe.loader, or the package ipxe (docs/dhcp.md); else "
        "log/serve.log",
    ),
    Rule(
        name="http-loader-cut",
        seen=_marks("loader-part"),
        missing=_marks("loader-sent ipxe-dhcp"),
        cause="its firmware asked for {file} by HTTP, and did not fetch it to the end",
        remedy="its console says why it stopped; else look for a slow or lossy link on its switch port, or a firewall "
        "that lets the question for the file's size pass and not the file",
        patience=LOADED,
    ),
    Rule(
        name="http-boot-blocked",
        seen=_marks("http-loader-offered firmware-request"),
        missing=_marks("loader-sent loader-part loader-error loader-offered ipxe-dhcp"),
        cause="its firmware boots by HTTP, was told {file}, and never asked for it: HTTP does not come through",
        remedy="let TCP to {url} pass the firewall of this computer and of the switch",
        patience=ONCE,
    ),
    Rule(
        name="no-loader",
        seen=_marks("no-loader-offered firmware-dhcp"),
        missing=_marks("loader-offered http-loader-offered url-offered"),
        cause="its firmware (arch {arch}, {firmware}) gets no loader from us: {note}",
        remedy="choose PXE for IPv4 in its firmware's setup, BIOS or UEFI on x86-64 (docs/dhcp.md)",
        patience=ONCE,
    ),
    Rule(
        name="offer-not-taken",
        seen=_marks("offer"),
        missing=_marks("ack firmware-request ipxe-request"),
        cause="it was offered an address and did not take it",
        remedy="another DHCP server answers (pxe looks for one as it starts), or our answers do not reach it: look at "
        "the VLAN and at DHCP snooping on the switch",
        patience=ONCE,
    ),
    Rule(
        name="discover-unanswered",
        seen=_marks("firmware-discover"),
        missing=_marks("offer ack"),
        cause="it asked for an address, and got no offer",
        remedy="dhcp.range may be used up: log/serve.log says `no address available`",
        patience=ONCE,
    ),
    Rule(
        name="only-its-system",
        seen=_marks("os-dhcp"),
        cause="only the system on its disk asked for an address: it did not start from the network",
        remedy="put the network card first in its boot order: power netboot {name}, or in its firmware's setup",
        patience=ONCE,
    ),
)

NOTHING = Rule(
    name="nothing-seen",
    seen=frozenset(),
    cause="no packet of {mac} was ever seen here",
    remedy="is it on, is the cable of this card in, in the right VLAN, is the network first in its boot order, and is "
    "{mac} the card that boots?",
)
NOT_SWITCHED_ON = Rule(
    name="not-switched-on",
    seen=frozenset(),
    cause="it is armed, and no packet of it was seen since",
    remedy="switch it on, to boot from the network: power netboot {name}",
)
UNDER_WAY = Rule(
    name="under-way",
    seen=frozenset(),
    cause="it is under way: {last}",
    remedy="wait a little and ask again",
    is_well=True,
)
