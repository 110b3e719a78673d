"""Debian's wrk: many keep-alive connections that ask again as soon as they are answered."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

_DONE = """
done = function(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('{"requests": %d, "seconds": %.6f, "failed": %d, "p50": %.3f, "p99": %.3f}\\n',
        summary.requests, summary.duration / 1e6, failed,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk counted: answers, of which `failed` were refusals or never came; latencies in milliseconds."""

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Return good answers per second."""
        return (self.requests - self.failed) / self.seconds


def script(folder: Path, name: str, body: str) -> Path:
    """Write a Lua script for wrk that also reports what we read; `body` defines `request`."""
    path = folder / f"{name}.lua"
    path.write_text(body + _DONE)
    return path


def load(url: str, lua: Path, *, connections: int, seconds: int) -> Load:
    """Run wrk with one thread.

    Raises:
        RuntimeError: it failed, or nothing was answered.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(lua), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 90)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    found = Load(**json.loads(lines[-1]))
    if found.requests <= found.failed:
        raise RuntimeError(f"{url}: none of {found.requests} requests was answered well")
    return found
