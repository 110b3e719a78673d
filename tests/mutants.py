"""Small wrong changes of the product, each of which the tests must notice: `python -m tests.mutants [NAME ...]`.

A suite that stays green whatever the program does proves nothing. Each mutant takes one promise out of the code, in a
copy of the checkout, and names the tests that must fail because of it. The same tests pass without the mutant.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_SECONDS = 300.0
FAILED = 1  # pytest's exit code when tests failed; 2 and above are interruptions, errors of use, no tests


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A change of `file`, where `old` stands exactly once, and the `tests` (pytest's words) that must notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MIRROR = "tests/system/mirror"

MUTANTS = (
    Mutant(
        name="a disk is granted in any state",
        file="bootstrap/records/transitions.py",
        old="    if record.state not in (State.ARMED, State.INSTALLING):\n        raise Refused",
        new="    if False:\n        raise Refused",
        tests=("tests/unit/web/test_web_machine.py", "tests/unit/records"),
    ),
    Mutant(
        name="attempts are not counted",
        file="bootstrap/records/transitions.py",
        old="    attempt = record.attempts + 1\n",
        new="    attempt = 1\n",
        tests=("tests/unit/web/test_web_machine.py", "tests/unit/records"),
    ),
    Mutant(
        name="any nonce is the one of before",
        file="bootstrap/records/transitions.py",
        old="    if nonce and nonce == record.begun:\n",
        new="    if nonce and record.begun:\n",
        tests=("tests/unit/web/test_web_machine.py", "tests/unit/records"),
    ),
    Mutant(
        name="any arm is the current one",
        file="web/machine.py",
        old="    return record.arm is not None and hmac.compare_digest(record.arm.encode(), arm.encode())",
        new="    return record.arm is not None or bool(arm)",
        tests=("tests/unit/web/test_web_machine.py",),
    ),
    Mutant(
        name="the condition of a write is not looked at",
        file="bootstrap/state/sqlite.py",
        old="    if changed.rowcount == 0:\n",
        new="    if changed.rowcount < 0:\n",
        tests=("tests/contract/test_stores.py",),
    ),
    Mutant(
        name="a batch overwrites what came meanwhile",
        file="bootstrap/records/batch.py",
        old="            if key not in self._read:\n                yield write",
        new="            if True:\n                yield write",
        tests=("tests/unit/records/test_batches.py",),
    ),
    Mutant(
        name="a cycle leaves off what is off",
        file="bootstrap/power/__init__.py",
        old="            self.deadline.pause(self.rest_seconds)\n        self.on()\n",
        new="            self.deadline.pause(self.rest_seconds)\n            self.on()\n",
        tests=("tests/contract/test_power_contract.py",),
    ),
    Mutant(
        name="a password that others can read is used",
        file="bootstrap/secret_file.py",
        old="    if mode & 0o077:\n",
        new="    if False:\n",
        tests=("tests/contract/test_power_contract.py", "tests/unit/certs/test_keys_of_cluster.py"),
    ),
    Mutant(
        name="what a driver has started outlives it",
        file="bootstrap/switching.py",
        old="                os.killpg(pid, signal.SIGKILL)\n",
        new="                pass\n",
        tests=("tests/unit/power/test_switching.py",),
    ),
    Mutant(
        name="a failed commit is acknowledged",
        file="bootstrap/records/batch.py",
        old="                _fail(done, error)\n            break",
        new="                del error\n            break",
        tests=("tests/unit/records/test_batches.py",),
    ),
    Mutant(
        name="commits are not synced in a power cut (NORMAL)",
        file="bootstrap/state/sqlite.py",
        old='"PRAGMA synchronous = FULL"',
        new='"PRAGMA synchronous = NORMAL"',
        tests=("tests/unit/state/test_sqlite_store.py",),
    ),
    Mutant(
        name="rendered files are not synced",
        file="bootstrap/disk.py",
        old="            file.flush()\n            os.fsync(descriptor)\n",
        new="            file.flush()\n",
        tests=("tests/unit/render/test_disk.py",),
    ),
    Mutant(
        name="the sum of the image is not compared",
        file="configs/installer/install",
        old='    [ "$digest" = "$image_sha256" ] || fail_attempt',
        new='    [ -n "$digest" ] || fail_attempt',
        tests=("-m", "system", "tests/system/test_image_installer_writes.py", "-k", "wrong_sum"),
    ),
    Mutant(
        name="the first MiB is written first",
        file="configs/installer/install",
        old='    dd of="$FL_RUN/head" bs="$MIB" count=1 iflag=fullblock 2>/dev/null &&\n',
        new='    dd of="$FL_RUN/head" bs="$MIB" count=1 iflag=fullblock 2>/dev/null &&\n'
        '        dd if="$FL_RUN/head" of="$disk" bs="$MIB" count=1 conv=notrunc 2>/dev/null &&\n',
        tests=("-m", "system", "tests/system/test_image_installer_writes.py", "-k", "first_mib or cut"),
    ),
    Mutant(
        name="a marker of another arm counts",
        file="configs/installer/install",
        old='    [ "$(marker_value state)" = installed ] && [ "$(marker_value arm)" = "$arm" ] &&\n',
        new='    [ "$(marker_value state)" = installed ] &&\n',
        tests=("-m", "system", "tests/system/test_image_installer_guard.py", "-k", "already_installed"),
    ),
    Mutant(
        name="a client says on which listener it came",
        file="configs/nginx/nginx.conf.j2",
        old="    proxy_set_header X-Firstlight-Listener $listener;\n",
        new="",
        tests=("-m", "system", "tests/system/test_web_serving.py", "-k", "no_header_opens"),
    ),
    Mutant(
        name="values go into documents as they are",
        file="bootstrap/render/ignition.py",
        old='    return "data:," + quote(content, safe="")',
        new='    return "data:," + (content if isinstance(content, str) else content.decode())',
        tests=("tests/unit/render/test_ignition_documents.py", "tests/unit/render/test_machine_documents.py"),
    ),
    Mutant(
        name="dnsmasq pings before it offers",
        file="configs/dnsmasq/dnsmasq.conf.j2",
        old="no-ping\n",
        new="",
        tests=("tests/unit/render/test_dnsmasq_conf.py",),
    ),
    Mutant(
        name="leases are forgotten in a restart",
        file="pxe/leases.py",
        old="            write(self._hosts, hosts_text(self._given, self._names), HOSTS_MODE)\n",
        new='            write(self._hosts, "", HOSTS_MODE)\n',
        tests=("tests/unit/pxe",),
    ),
    Mutant(
        name="firmware of type 7 is not known",
        file="bootstrap/render/firmware.py",
        old="archs=(7, 9)",
        new="archs=(9,)",
        tests=("-m", "system", "tests/system/test_pxe_table.py"),
    ),
    Mutant(
        name="a second key is bound like the first",
        file="bootstrap/records/claims.py",
        old="        return second_key(record, now, key=key)\n",
        new="        return _bound(record, now, node=node, key=key)\n",
        tests=("tests/unit/web/test_web_claim.py", "tests/unit/records"),
    ),
    Mutant(
        name="who was let go meanwhile is approved",
        file="web/claim.py",
        old="            self._must_be_bound(asker)\n",
        new="",
        tests=("tests/unit/web/test_web_claim_between.py",),
    ),
    Mutant(
        name="a request of another's key is taken for ours",
        file="web/claim.py",
        old="filed.signer == Signer.CLIENT and key == asker.request.fingerprint\n",
        new="filed.signer == Signer.CLIENT and bool(key)\n",
        tests=("tests/unit/web/test_web_claim_between.py",),
    ),
    Mutant(
        name="an API server waits for members of etcd on other hosts",
        file="bootstrap/kubernetes/etcd_unit.py",
        old="    if host.name in cluster.etcd.members:\n        return (",
        new="    if False:\n        return (",
        tests=("tests/unit/kubernetes/test_control_plane.py",),
    ),
    Mutant(
        name="a node refuses the last API server",
        file="configs/node/endpoint",
        old='    [ -n "$ready" ] || return 0\n',
        new="",
        tests=("tests/unit/node/test_endpoint.py",),
    ),
    Mutant(
        name="an image of the mirror needs no signature",
        file="bootstrap/mirror/pull.py",
        old="if item.is_signed else None\n",
        new="if not item else None\n",
        tests=("-m", "system", "-k", "stranger", MIRROR),
    ),
    Mutant(
        name="a redirect may lead anywhere",
        file="bootstrap/download.py",
        old='    if parts.scheme in {"https", urlsplit(url).scheme} and parts.hostname:\n',
        new="    if parts.scheme:\n",
        tests=("-m", "system", "-k", "lead_astray", MIRROR),
    ),
    Mutant(
        name="a channel may go back",
        file="bootstrap/mirror/pull.py",
        old="        if _numbers(version) < _numbers(before) and not self.allow_downgrade:\n",
        new="        if not version:\n",
        tests=("-m", "system", "-k", "channel_never", MIRROR),
    ),
    Mutant(
        name="programs of the mirror are not compared with its lock",
        file="bootstrap/binaries.py",
        old="(path, sums.get(name, sum_))",
        new="(path, sums.get(name))",
        tests=("-m", "system", "-k", "another_appliance", MIRROR),
    ),
    Mutant(
        name="an addon takes what somebody else made",
        file="bootstrap/adding/bring.py",
        old="force=self.force or not _is_others(before)",
        new="force=True",
        tests=("tests/unit/addons/test_bringing.py",),
    ),
    Mutant(
        name="a namespace that an addon joined goes with it",
        file="bootstrap/adding/bring.py",
        old="        if ref.was_there or _is_others(found):\n",
        new="        if _is_others(found):\n",
        tests=("tests/unit/addons/test_bringing.py",),
    ),
)


def main() -> int:
    """Try the mutants that are named, or all; return how many lived."""
    wanted = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    lived = [mutant.name for mutant in chosen if not is_killed(mutant)]
    sys.stdout.write(f"{len(chosen) - len(lived)} of {len(chosen)} mutants were noticed\n")
    for name in lived:
        sys.stdout.write(f"not noticed: {name}\n")
    return len(lived)


def is_killed(mutant: Mutant) -> bool:
    """Return whether a test fails because of `mutant`.

    Raises:
        ValueError: it changes nothing any more, or its tests could not run.
    """
    with copied() as copy:
        apply(mutant, copy)
        code, said = run(copy, mutant.tests)
    if code not in (0, FAILED):
        raise ValueError(f"{mutant.name}: pytest ended with {code}:\n{said[-2000:]}")
    sys.stdout.write(f"{'noticed' if code else 'LIVES'}: {mutant.name}\n")
    return code == FAILED


def apply(mutant: Mutant, folder: Path) -> None:
    """Change the mutant's file below `folder`; raises ValueError if its text does not stand there exactly once."""
    path = folder / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.file} holds its text {text.count(mutant.old)} times, not once"
        )
    path.write_text(text.replace(mutant.old, mutant.new))


@contextmanager
def copied() -> Iterator[Path]:
    """Yield a copy of all files that git knows or would take in."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with tempfile.TemporaryDirectory(prefix="firstlight-mutant-") as folder:
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        yield Path(folder)


def run(folder: Path, words: tuple[str, ...]) -> tuple[int, str]:
    """Run pytest in `folder` until the first failure; return its exit code and what it said."""
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *words),
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
