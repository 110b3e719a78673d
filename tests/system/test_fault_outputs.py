"""A disk that fails while documents, keys and artifacts are written: what stood there stays, and the message helps."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.artifacts import import_file, verify
from tests.system.storage_bench import command, mounted
from tests.system.test_fault_storage import fill
from tests.system.web_bench import ROOT
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

LAB = ROOT / "tests" / "system" / "bare.yaml"
OTHER = 'pools:\n  - name: workers\n    kernelArgs: ["quirk=1"]\n'
PATIENCE_SECONDS = 60


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a small disk that holds a work folder with keys, and rendered documents."""
    (tmp_path / "other.yaml").write_text(OTHER)
    with mounted("tmpfs", tmp_path / "small", "-o", "size=4m", "tmpfs") as folder:
        assert deploy(folder, "render", "--output", f"{folder}/out").returncode == 0
        yield folder


def deploy(folder: Path, *verb: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run deploy.py on the small disk; the verb sees documents that differ from those there."""
    configs: tuple[str, ...] = ("--config", str(LAB))
    if (folder / "out").exists():
        configs = (*configs, "--config", str(folder.parent / "other.yaml"))
    argv = (*prefix, sys.executable, str(ROOT / "deploy.py"), *configs, "--deploy", f"{folder}/deploy", *verb)
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


def tree(folder: Path) -> dict[str, str]:
    """Return the sum of every file below `folder`, hidden ones as well."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def keys_and_documents(folder: Path) -> dict[str, dict[str, str]]:
    return {"keys": tree(folder / "deploy/bare/pki"), "documents": tree(folder / "out")}


def failed_helpfully(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert exit 1 and one line that names the path and what to do."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), last


VERBS = (("render", "--output"), ("certs", "renew"), ("up", "--no-wait"))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_full_disk_leaves_keys_and_documents_as_they_were(small: Path, verb: tuple[str, ...]) -> None:
    before = keys_and_documents(small)
    filler = fill(small)

    failed_helpfully(
        deploy(small, *arguments(small, verb)), str(small), "No space left on device", "make room"
    )

    assert keys_and_documents(small) == before
    filler.unlink()
    assert deploy(small, "render", "--output", f"{small}/out").returncode == 0
    assert keys_and_documents(small)["documents"] != before["documents"]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_read_only_disk_leaves_keys_and_documents_as_they_were(small: Path, verb: tuple[str, ...]) -> None:
    before = keys_and_documents(small)
    command("mount", "-o", "remount,ro", str(small))

    failed_helpfully(deploy(small, *arguments(small, verb)), str(small), "Read-only file system", "dmesg")

    assert keys_and_documents(small) == before


def arguments(small: Path, verb: tuple[str, ...]) -> tuple[str, ...]:
    return (*verb, f"{small}/out") if verb[-1] == "--output" else verb


def test_a_sync_that_fails_leaves_the_old_documents_or_the_new(small: Path, promise: Promise) -> None:
    """At syncs that the dice choose; the trees on both sides are known, and nothing else may ever be seen."""
    assert deploy(small, "render", "--output", f"{small}/new").returncode == 0
    there_are = syncs_of_a_render(small)
    assert there_are > 1
    times = min(there_are, rounds(ci=4, soak=1000))
    for number in sorted(dice("outputs").sample(range(1, there_are + 1), times)):
        fails_at_sync(small, number)
    promise(
        promise="S-18 EIO while documents are written",
        asked="the old documents or the new, exit 1, path and remedy named",
        done=f"render with one failed sync, {times} of its {there_are}",
        found=f"{times} told so with exit 1, 0 mixtures",
        seed=seed(),
    )


def syncs_of_a_render(small: Path) -> int:
    """Return how many syncs there are in a render over the old documents."""
    done, trace = traced_render(small)
    assert (done.returncode, tree(small / "target")) == (0, tree(small / "new")), done
    shutil.rmtree(small / "target")
    return trace.count("fsync(")


def fails_at_sync(small: Path, number: int) -> None:
    """Render over the old documents with the sync `number` failing."""
    done, trace = traced_render(small, "-e", f"inject=fsync:error=EIO:when={number}")
    assert "INJECTED" in trace
    failed_helpfully(done, str(small), "Input/output error; the disk failed")
    assert tree(small / "target") in (tree(small / "out"), tree(small / "new"))
    shutil.rmtree(small / "target")
    assert not [path for path in small.iterdir() if path.name.startswith(".target")], "rubbish is left"


def traced_render(small: Path, *fault: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Render over a copy of the old documents; return what came of it, and the trace of its syncs."""
    target, trace = small / "target", small.parent / "trace"
    shutil.copytree(small / "out", target)
    prefix = ("strace", "-f", "--seccomp-bpf", "-o", str(trace), "-e", "trace=fsync", *fault)
    done = deploy(small, "render", "--output", str(target), prefix=prefix)
    return done, trace.read_text()


def test_a_full_disk_takes_no_half_artifact(tmp_path: Path, small: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 65536)
    kept = import_file(small / "cache", source)
    source.write_bytes(b"y" * (8 << 20))

    with pytest.raises(OSError, match="No space left on device"):
        import_file(small / "cache", source)

    verify(small / "cache", kept)
    assert [path.name for path in (small / "cache/sha256").iterdir()] == [kept.sha256]
