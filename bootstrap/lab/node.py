"""What a host of the rack has besides, that is to run a kubelet: a container may do less than a server. Pure.

nspawn gives a container its control groups, and most of the kernel's settings, to look at only. Those that kubelet
wants are the whole computer's: they stay as they are, and kubelet is shown what it wants to see.
"""

from collections.abc import Mapping

UNIT = "firstlight-lab-node.service"
_SHOWN: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet writes at its start unless it is there already (its setupKernelTunables)."""
_SCRIPT = """#!/bin/sh
# Lets containerd and kubelet run in this container.
set -eu
for folder in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    ! mountpoint -q "$folder" || mount -o remount,bind,rw "$folder"
done
# kubelet reads of processes that the kernel killed; the kernel of the lab is somebody else's.
[ -e /dev/kmsg ] || ln -s /dev/null /dev/kmsg
mkdir -p /run/firstlight-lab/sys
show() {
    file=/run/firstlight-lab/sys/$(echo "$1" | tr / .)
    echo "$2" >"$file"
    [ "$(cat "/proc/sys/$1")" = "$2" ] || mount --bind "$file" "/proc/sys/$1"
}
"""
_UNIT = """[Unit]
Description=Let a kubelet run in this container
DefaultDependencies=no
After=local-fs.target
Before=containerd.service kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/firstlight-lab/node
"""


def files() -> Mapping[str, tuple[bytes, int]]:
    """Return what such a host's root holds at every start, by path in it: content and permission bits."""
    script = _SCRIPT + "".join(f"show {name} {value}\n" for name, value in _SHOWN.items())
    wanted = f"[Unit]\nWants={UNIT}\nAfter={UNIT}\n"
    return {
        "etc/firstlight-lab/node": (script.encode(), 0o755),
        f"etc/systemd/system/{UNIT}": (_UNIT.encode(), 0o644),
        "etc/systemd/system/multi-user.target.d/10-firstlight-lab.conf": (wanted.encode(), 0o644),
    }
