"""Makers with real keys, a server with a real certificate, and a rack that trusts both."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import download
from tests.system import mirror_site as makers
from tests.system.mirror_rack import Rack
from tests.system.mirror_site import STREAM, Gpg, Image, Server, Site


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    with makers.keys(tmp_path_factory.mktemp("gpg") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def whole(gpg: Gpg) -> Site:
    """Everything signed once; `{url}` stands where the server's address will."""
    site = Site(gpg, "{url}", Image.made())
    site.fill()
    return site


@pytest.fixture
def server(pem: Path, whole: Site) -> Iterator[Server]:
    with makers.serving(pem) as made:
        files = copy.copy(whole.files)
        files[STREAM] = files[STREAM].replace(b"{url}", made.url.encode())
        made.site = Site(whole.gpg, made.url, copy.deepcopy(whole.image), files)
        yield made


@pytest.fixture
def site(server: Server) -> Site:
    assert server.site is not None
    return server.site


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed tries follow each other at once, and no cache of the user's is touched."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.delenv("FIRSTLIGHT_CACHE", raising=False)


@pytest.fixture
def rack(site: Site, pem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quick: None) -> Rack:
    del quick
    gpg = site.gpg
    folder = tmp_path / "rack"
    folder.mkdir()
    (folder / "rack.yaml").write_text(makers.configuration(site))
    (folder / "flatcar.asc").write_bytes(gpg.public("maker@example.net", "--armor"))
    (folder / "fedora.gpg").write_bytes(gpg.public("maker@example.net") + gpg.public("expired@example.net"))
    (folder / "ca.pem").write_bytes(pem.read_bytes())
    return Rack(folder, capsys)
