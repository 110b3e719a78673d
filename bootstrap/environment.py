"""Makes `.venv/` from requirements.lock once, and runs deploy.py inside it. Standard library only.

A second start finds the stamp of the same lock file and does nothing. FIRSTLIGHT_NO_VENV=1 skips all of
this, for containers and packagers that bring the dependencies themselves.
`python3 -m bootstrap.environment --dev` adds what the tests need.
"""

from __future__ import annotations  # an old Python must get as far as the sentence that says so

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"  # holds the pins of LOCK too
OLDEST = (3, 11)


def enter(script: str, arguments: list[str]) -> None:
    """Return when the dependencies are importable here; otherwise prepare them and restart `script` there."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"firstlight needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is {sys.version.split()[0]}"
        )
    if os.environ.get("FIRSTLIGHT_NO_VENV"):
        return
    os.environ.pop("PYTHONHOME", None)  # it would send the environment's interpreter to other libraries
    if not is_ready(LOCK):
        prepare(LOCK)
    python = VENV / "bin" / "python"
    if Path(sys.prefix).resolve() != VENV.resolve():
        # A starting interpreter answers Ctrl-C with a traceback: it waits until bootstrap.cli hears it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            os.execv(python, [str(python), script, *arguments])  # noqa: S606  # the same program, another interpreter
        finally:  # only if it could not be started
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def is_ready(lock: Path) -> bool:
    """Return whether `.venv/` was made completely, from what `lock` holds today."""
    stamp = stamp_of(lock)
    has_python = (VENV / "bin" / "python").exists()  # not when the one it links to was uninstalled
    return has_python and stamp.is_file() and stamp.read_text() == wanted_stamp(lock)


def stamp_of(lock: Path) -> Path:
    """Return the file in `.venv/` that says that everything in `lock` is installed."""
    return VENV / f"{lock.stem}.stamp"


def wanted_stamp(lock: Path) -> str:
    """Return what the stamp of a complete environment holds: the lock's hash and this Python's version."""
    import hashlib  # noqa: PLC0415  # every start comes here, and almost none goes further

    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{digest} {sys.version_info.major}.{sys.version_info.minor}\n"


def prepare(lock: Path) -> None:
    """Make the environment; a failed or interrupted one is removed, so that the next start begins afresh."""
    import shutil  # noqa: PLC0415  # as those below: needed once, and slow to import
    import subprocess  # noqa: PLC0415

    say(f"preparing .venv/ from {lock.name} (once; about 20 seconds) ...")
    try:
        make_venv()
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-qq", "--require-hashes"]
        subprocess.run([*pip, "--disable-pip-version-check", "--requirement", str(lock)], check=True)
        for done in {LOCK, lock}:
            stamp_of(done).write_text(wanted_stamp(done))
    except subprocess.CalledProcessError as error:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(
            f"firstlight: could not prepare .venv/: {' '.join(error.cmd[:6])} ... exit {error.returncode}"
        )
    except BaseException:
        shutil.rmtree(VENV, ignore_errors=True)
        raise


def make_venv() -> None:
    """Make an empty `.venv/` with pip; Debian keeps pip's seed in a package of its own, python3-venv."""
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    shutil.rmtree(VENV, ignore_errors=True)
    command = [base_python(), "-m", "venv", str(VENV)]
    first = subprocess.run(command, check=False, capture_output=True, text=True)
    if first.returncode == 0:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(
            f"firstlight: {' '.join(command)} failed:\n{first.stdout}{first.stderr}"
            "On Debian and Ubuntu: sudo apt-get install python3-venv"
        )
    say("installing the Debian package python3-venv ...")
    apt = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=apt)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "python3-venv"], check=True, env=apt, stdout=sys.stderr
    )
    subprocess.run(command, check=True)


def base_python() -> str:
    """Return the interpreter that environments are made from; ours may be one in the `.venv/` just removed."""
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    return str(Path(sys.base_prefix) / "bin" / "python3") if inside else sys.executable


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays free for results."""
    print(f"firstlight: {text}", file=sys.stderr, flush=True)  # noqa: T201  # rich is not there yet


if __name__ == "__main__":
    wanted = DEV_LOCK if "--dev" in sys.argv else LOCK
    if not is_ready(wanted):
        prepare(wanted)
