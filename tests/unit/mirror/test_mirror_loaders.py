"""iPXE loaders that are named by URL: fetched once, held against their sums, from the mirror where there is one."""

import copy
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bootstrap.artifacts import artifact_path
from bootstrap.errors import PreflightError
from bootstrap.loaders import content_of, sources
from bootstrap.mirror.loaders import PARTS, bring
from bootstrap.mirror.wanted import source, wanted
from bootstrap.model import Cluster
from bootstrap.progress import silent
from tests.unit.lab.conftest import DOCUMENT

LOADER = b"MZ iPXE for everybody" * 100
SUM = hashlib.sha256(LOADER).hexdigest()


@dataclass
class Maker:
    """A server of loaders, and what it was asked for."""

    url: str
    content: bytes = LOADER
    asked: list[str] = field(default_factory=list)


@pytest.fixture(name="maker")
def fixture_maker() -> Iterator[Maker]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(made.content)))
            self.end_headers()
            self.wfile.write(made.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Maker(f"http://127.0.0.1:{server.server_port}/v2/snponly.efi")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def cluster(maker: Maker, **more: object) -> Cluster:
    document = copy.deepcopy(DOCUMENT)
    named = {"url": maker.url, "sha256": SUM}
    document["appliance"]["pxe"] = {"loader": {"efi64": named, "httpEfi64": named}}
    return Cluster.model_validate(document | more)


def test_it_is_fetched_once_and_sent_from_the_store(tmp_path: Path, maker: Maker) -> None:
    asked_for = cluster(maker)

    assert bring(asked_for, tmp_path, tmp_path / "cache", silent) == ("snponly.efi",)
    assert bring(asked_for, tmp_path, tmp_path / "cache", silent) == ()
    assert maker.asked == ["/v2/snponly.efi"]
    found = [
        one
        for one in sources("tftp", asked_for.appliance.pxe.loader, tmp_path / "cache")
        if one.sha256 == SUM
    ]
    assert [content_of(one) for one in found] == [LOADER]
    assert list((tmp_path / "cache" / PARTS).iterdir()) == []


def test_one_that_is_damaged_in_the_store_is_fetched_again(tmp_path: Path, maker: Maker) -> None:
    stored = artifact_path(tmp_path, SUM)
    stored.parent.mkdir()
    stored.write_bytes(LOADER[:-1] + b"?")

    assert bring(cluster(maker), tmp_path, tmp_path, silent) == ("snponly.efi",)
    assert stored.read_bytes() == LOADER


def test_another_file_is_refused_with_both_sums_and_kept_nowhere(tmp_path: Path, maker: Maker) -> None:
    maker.content = b"another"
    with pytest.raises(PreflightError) as refused:
        bring(cluster(maker), tmp_path, tmp_path, silent)

    assert str(refused.value).startswith(f"appliance.pxe.loader: {maker.url} has sha256 ")
    assert f"not {SUM}" in str(refused.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_a_network_it_comes_from_the_mirror(tmp_path: Path, maker: Maker) -> None:
    asked_for = cluster(maker, mirror={"directory": "offline"})
    (one,) = [one for one in wanted(asked_for) if one.source == "files"]
    (item,) = source("files").items(one, None)  # type: ignore[arg-type]  # nobody is asked
    mirrored = tmp_path / "offline" / item.path
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(LOADER)

    assert (item.url, item.digest.hex) == (maker.url, SUM)
    assert bring(asked_for, tmp_path, tmp_path / "cache", silent) == ("snponly.efi",)
    assert artifact_path(tmp_path / "cache", SUM).read_bytes() == LOADER
    assert maker.asked == []


def test_one_that_is_damaged_in_the_mirror_is_not_believed(tmp_path: Path, maker: Maker) -> None:
    asked_for = cluster(maker, mirror={"directory": "offline"})
    mirrored = tmp_path / f"offline/files/{SUM[:12]}/snponly.efi"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(b"damaged")

    with pytest.raises(PreflightError, match=r"run mirror verify, then mirror pull"):
        bring(asked_for, tmp_path, tmp_path / "cache", silent)
    assert list((tmp_path / "cache/sha256").iterdir()) == []


def test_two_urls_of_one_file_are_one_and_a_path_is_none(tmp_path: Path, maker: Maker) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["appliance"]["pxe"] = {"loader": {"efi64": {"path": "/srv/snponly.efi", "sha256": SUM}}}

    assert bring(Cluster.model_validate(document), tmp_path, tmp_path, silent) == ()
    assert len([one for one in wanted(cluster(maker)) if one.source == "files"]) == 1
