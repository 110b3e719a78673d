from pathlib import Path

import pytest

from bootstrap.keys import ensure_keys
from certs.secret import Secret
from tests.unit.handover.rack import NOW, Rack, cluster


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real keys, made once; the authorities' are sealed."""
    work = tmp_path_factory.mktemp("keys")
    ensure_keys(cluster(), work, NOW, Secret(b"correct horse"))
    return work / "pki"


@pytest.fixture
def rack(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Rack:
    monkeypatch.delenv("FIRSTLIGHT_CACHE", raising=False)
    made = Rack(tmp_path)
    made.make(keys)
    return made
