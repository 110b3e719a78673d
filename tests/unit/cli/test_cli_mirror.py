"""The verbs of the mirror where there is none, and where the configuration says too little."""

from pathlib import Path

from tests.unit.cli.conftest import Firstlight


def test_what_the_configuration_lacks_is_said_before_anybody_is_asked(
    firstlight: Firstlight, configs: Path, deploy: Path
) -> None:
    done = firstlight("--config", configs / "example.yaml", "mirror", "pull")

    assert done.code == 2
    assert done.out == ""
    assert done.err.splitlines()[-2:] == [
        "mirror.keys.flatcar is needed: add a file with the maker's public keys",
        "mirror.etcd is needed: add the release that the members run, such as {version: v3.6.5}",
    ]
    assert not deploy.exists()


def test_a_mirror_that_is_not_there_has_no_files_and_does_not_pass(
    firstlight: Firstlight, configs: Path
) -> None:
    listed = firstlight("--config", configs / "example.yaml", "--output", "json", "mirror", "list")
    checked = firstlight("--config", configs / "example.yaml", "mirror", "verify")

    assert (listed.code, listed.json()) == (0, [])
    assert checked.code == 1
    assert "is no mirror: it has no mirror.lock.json; run mirror pull" in checked.err.splitlines()[-1]
