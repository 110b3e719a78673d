"""The option-93 table: the codes of requirement R-05, each once."""

import pytest

from bootstrap.render.firmware import TABLE, firmware_of, loaders


def test_the_table_covers_the_codes_that_real_firmware_sends() -> None:
    assert sorted(arch for row in TABLE for arch in row.archs) == [0, 6, 7, 9, 10, 11, 15, 16, 18, 19, 20]


@pytest.mark.parametrize(
    ("arch", "loader"), [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi"), (6, None), (18, None)]
)
def test_a_code_has_its_loader(arch: int, loader: str | None) -> None:
    row = firmware_of(arch)

    assert row is not None
    assert row.loader == loader


@pytest.mark.parametrize("arch", [1, 2, 8, 12, 17, 21, 255, 65535, -1])
def test_an_unknown_code_is_no_bios(arch: int) -> None:
    assert firmware_of(arch) is None


def test_the_vendor_class_says_the_same_as_the_code() -> None:
    named = {row.name: row.vendor_classes for row in TABLE}

    assert named["efi64"] == ("PXEClient:Arch:00007", "PXEClient:Arch:00009")
    assert named["http-efi64"] == ("HTTPClient:Arch:00016",)


def test_every_row_says_something_and_names_are_fit_for_a_tag() -> None:
    for row in TABLE:
        assert row.note
        assert row.name.replace("-", "").isalnum()


def test_the_loaders_are_named_once() -> None:
    assert loaders() == ("undionly.kpxe", "snponly.efi", "arm64-efi/snponly.efi")


def test_http_boot_is_told_a_url_and_pxe_a_path() -> None:
    files = {row.name: row.boot_file("http://10.77.0.1:8080") for row in TABLE if row.loader}

    assert files == {
        "bios": "undionly.kpxe",
        "efi64": "snponly.efi",
        "efi-arm64": "arm64-efi/snponly.efi",
        "http-efi64": "http://10.77.0.1:8080/loader/ipxe-x86_64.efi",
        "http-arm64": "http://10.77.0.1:8080/loader/ipxe-arm64.efi",
    }
