"""The keys and certificates of a whole cluster: made in our process, and by the openssl command."""

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.comparison import Benchmark, Figure, Figures, Ratio, Side
from benchmarks.racks import cluster_of
from bootstrap.keys import names_from
from certs.keystore import Keystore
from certs.wanted import Wanted, WantedCa, WantedKeyPair, WantedLeaf, rows

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch")


@contextmanager
def prepare(folder: Path) -> Iterator[Mapping[str, Side]]:
    """Read the table of a small cluster; each round makes it anew in an empty folder."""
    wanted = rows(names_from(cluster_of(folder, 10)))
    numbers = itertools.count()
    yield {
        "ours": partial(_timed, lambda place: _ours(place, wanted), folder, numbers),
        "openssl": partial(_timed, lambda place: _openssl(place, wanted), folder, numbers),
    }


def _timed(make: Callable[[Path], None], folder: Path, numbers: Iterator[int]) -> Figures:
    place = folder / f"pki{next(numbers)}"
    began = time.perf_counter()
    make(place)
    seconds = time.perf_counter() - began
    certificates = len(list(place.rglob("*.crt")))
    shutil.rmtree(place)
    return {"milliseconds": 1000 * seconds, "certificates": certificates}


def _ours(place: Path, wanted: tuple[Wanted, ...]) -> None:
    Keystore(place).ensure(wanted, datetime.now(UTC))


def _openssl(place: Path, wanted: tuple[Wanted, ...]) -> None:
    """Make the same set with the openssl command, and bring its files to the disk as ours are."""
    place.mkdir()
    for row in wanted:
        (place / row.name).parent.mkdir(exist_ok=True)
        match row:
            case WantedCa():
                _authority(place, row)
            case WantedLeaf():
                _leaf(place, row)
            case WantedKeyPair():
                _key_pair(place, row)
    for path in (*place.rglob("*"), place):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _authority(place: Path, row: WantedCa) -> None:
    _run(
        *("req", "-x509", *_EC, "-days", "3650", "-subj", f"/CN={row.common_name}"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", f"{place / row.name}.key", "-out", f"{place / row.name}.crt"),
    )


def _leaf(place: Path, row: WantedLeaf) -> None:
    name, issuer = place / row.name, place / row.issuer
    organization = f"/O={row.organization}" if row.organization else ""
    _run(
        *("req", *_EC, "-subj", f"{organization}/CN={row.common_name}"),
        *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
    )
    extensions = place / "extensions"
    extensions.write_text(_extensions(row))
    _run(
        *("x509", "-req", "-in", f"{name}.csr", "-days", "365", "-extfile", str(extensions)),
        *("-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-set_serial", f"0x{os.urandom(16).hex()}"),
        *("-out", f"{name}.crt"),
    )


def _extensions(row: WantedLeaf) -> str:
    names = ",".join(
        f"{'IP' if san.replace('.', '').isdigit() or ':' in san else 'DNS'}:{san}" for san in row.sans
    )
    lines = ["basicConstraints=critical,CA:false", "keyUsage=critical,digitalSignature"]
    return "\n".join([*lines, f"subjectAltName={names}"] if names else lines) + "\n"


def _key_pair(place: Path, row: WantedKeyPair) -> None:
    key = f"{place / row.name}.key"
    _run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    _run("pkey", "-in", key, "-pubout", "-out", f"{place / row.name}.pub")


def _run(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


BENCHMARK = Benchmark(
    name="pki",
    why="Every key and certificate of a cluster (ECDSA P-256, with names), made and brought to the disk.",
    ratios=(
        Ratio(
            name="the openssl command against us",
            top=Figure("openssl", "milliseconds"),
            bottom=Figure("ours", "milliseconds"),
            asked=">= 10",
            unit="ms",
            why="a process per certificate is what scripts do; keys are made at the start of every first run.",
        ),
        Ratio(
            name="certificates made by openssl, and by us",
            top=Figure("openssl", "certificates"),
            bottom=Figure("ours", "certificates"),
            asked="== 1",
            why="both make the same set.",
        ),
    ),
    prepare=prepare,
)
