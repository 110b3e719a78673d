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


def test_missing_keys_and_tools_are_said_before_anything_is_fetched(
    firstlight: Firstlight, configs: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("mirror: {keys: {flatcar: keys.asc}, etcd: {version: v3.6.5}}\n")
    words = ("--config", configs / "example.yaml", "--config", site, "mirror", "pull")

    without_gpgv = firstlight(*words)  # no program is on the PATH

    assert without_gpgv.code == 1
    assert without_gpgv.err.splitlines()[-1] == "gpgv is not installed; as root: apt-get install gpgv"
    (tmp_path / "elsewhere" / "gpgv").write_text("#!/bin/sh\n")
    (tmp_path / "elsewhere" / "gpgv").chmod(0o755)
    without_keys = firstlight(*words)
    assert without_keys.code == 1
    assert f"{tmp_path / 'keys.asc'} cannot be read: No such file" in without_keys.err.splitlines()[-1]
