"""`./bench`: runs the benchmarks one after another, prints the table, and exits 1 if a ratio misses its goal."""

import argparse
import importlib
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import benchmarks
from benchmarks.comparison import Benchmark, Result, interleave
from benchmarks.report import here, put, report
from benchmarks.table import missed

FEWEST_ROUNDS = 5
# A disk, where /tmp may be memory: rates of syncs mean nothing there.
PLACE = Path("/var/tmp")  # noqa: S108  # a folder with a random name is made in it
OPEN_FILES = 8192


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _arguments()
    known = everything()
    if arguments.list:
        print("\n".join(f"{each.name}: {each.why}" for each in known))
        return 0
    if unknown := set(arguments.only or ()) - {each.name for each in known}:
        print(f"there is no benchmark {', '.join(sorted(unknown))}; see --list", file=sys.stderr)
        return 2
    chosen = [each for each in known if not arguments.only or each.name in arguments.only]
    found, broken = [], list[str]()
    for each in chosen:
        try:
            found.append((each, run(each, arguments.rounds, arguments.folder)))
        except Exception:  # noqa: BLE001  # what the others measured in half an hour is not thrown away
            traceback.print_exc()
            broken.append(f"{each.name}: it could not be measured")
        except KeyboardInterrupt:
            broken.append(f"{each.name}: it was interrupted")
            break
    return _told(found, broken, arguments.write)


def _told(
    found: Sequence[tuple[Benchmark, Sequence[Result]]], broken: Sequence[str], page: Path | None
) -> int:
    """Print the tables, and what is missed by name; return the exit code."""
    text = report(found, heading=here())
    print(text)
    if page is not None:
        page.write_text(put(page.read_text(), text))
    lines = [*broken, *missed([result for _, results in found for result in results])]
    print("\n".join(f"missed: {line}" for line in lines) or "every ratio reaches its goal", file=sys.stderr)
    return 1 if lines else 0


def everything() -> list[Benchmark]:
    """Return the benchmarks of this folder: every module that exports BENCHMARK, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names if name != "__main__"]
    found = [getattr(module, "BENCHMARK", None) for module in modules]
    return [each for each in found if isinstance(each, Benchmark)]


def run(benchmark: Benchmark, rounds: int, place: Path) -> list[Result]:
    """Run one benchmark in a folder of its own, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="firstlight-bench-", dir=place))
    try:
        _tell(f"{benchmark.name}: preparing")
        rounds = max(rounds, benchmark.rounds)
        with benchmark.prepare(folder) as sides:
            done = interleave(sides, rounds=rounds, tell=lambda what: _tell(f"{benchmark.name}: {what}"))
    finally:
        shutil.rmtree(folder)
    return [Result(ratio, done) for ratio in benchmark.ratios]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _leave(number: int, frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C: what was started is stopped on the way out."""
    del number, frame
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the benchmarks and why they are there")
    parser.add_argument("--only", action="append", metavar="NAME", help="run this one; may be given again")
    parser.add_argument("--rounds", type=_rounds, default=FEWEST_ROUNDS, metavar="N", help="at least 5")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the page's marks")
    parser.add_argument("--folder", type=Path, default=PLACE, metavar="DIR", help="where to work; on a disk")
    return parser.parse_args()


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < FEWEST_ROUNDS:
        raise argparse.ArgumentTypeError(f"a median of fewer than {FEWEST_ROUNDS} rounds says little")
    return rounds


if __name__ == "__main__":
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _leave)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    sys.exit(main())
