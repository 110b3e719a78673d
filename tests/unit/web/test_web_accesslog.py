"""What is read out of nginx's log: hostile lines, rings, rotation, who an address belongs to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.explain.steps import of_request
from tests.unit.web.fakes import W1, W2, cluster
from web.accesslog import KEPT, KEPT_OF_OTHERS, MOST_ADDRESSES, AccessLog, requests_in

CLUSTER = cluster({"name": "w1", "mac": W1, "address": "10.77.0.21"}, {"name": "w2", "mac": W2})
SUM = "a" * 64


def line(request: str, status: int = 200, **more: Any) -> str:
    """Return a line as log_format in configs/nginx/nginx.conf.j2 writes it (nginx escapes as JSON does)."""
    fields = {
        "time": "2026-11-23T05:28:55+00:00",
        "epoch": 1000.5,
        "address": "10.77.0.21",
        "listener": "public",
        "request": request,
        "status": status,
        "bytes": 10,
        "seconds": 0.25,
        "length": "10",
        "range": "",
        "agent": "iPXE/1.21.1",
    }
    return json.dumps({**fields, **more}, separators=(",", ":"))


@pytest.fixture(name="log")
def fixture_log(tmp_path: Path) -> Iterator[tuple[AccessLog, Path]]:
    path = tmp_path / "access.log"
    reader = AccessLog(lambda: CLUSTER, path)
    yield reader, path
    reader.stop()


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{one}\n" for one in lines)


def test_a_machine_is_known_by_its_reserved_address(log: tuple[AccessLog, Path]) -> None:
    reader, path = log
    append(path, line("GET /boot.ipxe HTTP/1.1"), line(f"GET /artifacts/sha256/{SUM} HTTP/1.1", 404))
    reader.look()

    found = reader.requests_of(W1)

    assert [("boot-script", 200), ("artifact", 404)] == [(one.what, one.status) for one in found]
    assert 1000.25 == found[0].at  # when it began
    assert "aaaaaaaaaaaa" == found[1].name


def test_a_machine_without_reservation_is_known_by_dhcp_or_by_its_own_question(
    log: tuple[AccessLog, Path],
) -> None:
    reader, path = log
    append(path, line("GET /boot.ipxe HTTP/1.1", address="10.77.0.150"))
    reader.look()
    assert [] == reader.requests_of(W2)

    append(path, line(f"GET /ipxe?mac={W2.replace(':', '-')}&x=1 HTTP/1.1", address="10.77.0.150"))
    reader.look()
    assert ["boot-script", "script"] == [one.what for one in reader.requests_of(W2)]

    reader.hears(W2, "10.77.0.151")
    append(path, line("GET /boot.ipxe HTTP/1.1", 404, address="10.77.0.151"))
    reader.look()
    assert 404 == reader.requests_of(W2)[-1].status


def test_who_names_the_mac_of_a_machine_with_a_reservation_writes_nothing_into_its_story(
    log: tuple[AccessLog, Path],
) -> None:
    """Of two that use one address, DHCP's word counts; a reserved one is the machine's."""
    reader, path = log
    append(path, line(f"GET /ipxe?mac={W2} HTTP/1.1"))
    reader.look()

    assert [] == reader.requests_of(W2)


def test_a_boot_by_https_is_told_as_one(log: tuple[AccessLog, Path]) -> None:
    reader, path = log
    append(path, line("GET /boot.ipxe HTTP/1.1", listener="machine"), line("GET /boot.ipxe HTTP/1.1"))
    reader.look()

    assert [True, False] == [one.is_secure for one in reader.requests_of(W1)]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("&error=0216eb3c", "0216eb3c"),
        ("&error=", ""),
        ("&error=0216eb3cff", ""),
        ("&error=%0a216eb3", ""),
        ("", ""),
    ],
)
def test_an_ipxe_that_refuses_our_certificate_is_heard_with_its_error(
    log: tuple[AccessLog, Path], query: str, error: str
) -> None:
    reader, path = log
    append(path, line(f"GET /ipxe/refused?mac={W2.replace(':', '-')}{query} HTTP/1.1", address="10.77.0.150"))
    reader.look()

    (one,) = reader.requests_of(W2)
    assert ("https-refused", error, 200) == (one.what, one.name, one.status)


@pytest.mark.parametrize(
    "hostile",
    [
        line('GET /x","status":200 HTTP/1.1'),
        line("GET /boot.ipxe HTTP/1.1", listener="operator"),
        line("GET /ipxe/leave?mac=52-54-00-aa-00-02 HTTP/1.1"),
        line("POST /boot.ipxe HTTP/1.1"),
        line('GET /boot.ipxe" HTTP/1.1'),
        line("GET /boot.ipxe HTTP/1.1", address="unix:"),
        line("GET /boot.ipxe HTTP/1.1")[1:],
        f"x{line('GET /boot.ipxe HTTP/1.1')}",
        "\xff\x00 not a line of nginx",
        line(f"GET /artifacts/{'x' * 5000} HTTP/1.1"),
    ],
)
def test_other_lines_are_nothing(hostile: str) -> None:
    assert [] == list(requests_in(hostile.encode("latin-1")))


def test_what_a_machine_writes_cannot_look_like_another_line() -> None:
    forged = '"}\n' + line("GET /boot.ipxe HTTP/1.1", address="10.77.0.99")
    real = line("GET /boot.ipxe HTTP/1.1", agent=forged)

    assert ["10.77.0.21"] == [address for address, _, _ in requests_in(real.encode())]


def test_each_machine_has_a_ring_and_all_others_have_one(log: tuple[AccessLog, Path]) -> None:
    reader, path = log
    append(path, line("GET /boot.ipxe HTTP/1.1"))
    many = [line(f"GET /v1/ignition/{n} HTTP/1.1", 404, address=f"10.78.{n % 250}.9") for n in range(2000)]
    append(path, *many, *(line(f"GET /v1/ignition/{n} HTTP/1.1", 404) for n in range(100)))
    append(path, *(line(f"GET /ipxe?mac=02-00-00-00-00-{n % 256:02x} HTTP/1.1", address=f"10.80.{n // 250}.{n % 250}")
                   for n in range(MOST_ADDRESSES + 100)))  # fmt: skip
    reader.look()

    assert KEPT == len(reader.requests_of(W1))
    assert KEPT_OF_OTHERS == len(reader._others)
    assert MOST_ADDRESSES == len(reader._macs)
    assert [W1] == list(reader._rings)


def test_a_loader_for_http_boot_is_told_and_what_ipxe_tries_beside_it_is_not(
    log: tuple[AccessLog, Path],
) -> None:
    """iPXE of 2025 looks for autoexec.ipxe beside itself: that there is none is no news."""
    reader, path = log
    append(path, line("GET /loader/ipxe-x86_64.efi HTTP/1.1"))
    append(path, line("GET /loader/autoexec.ipxe HTTP/1.1", 404))
    reader.look()

    (one,) = reader.requests_of(W1)
    assert ("loader", "/loader/ipxe-x86_64.efi", 200) == (one.what, one.name, one.status)


@pytest.mark.parametrize(
    ("request_line", "fields", "end"),
    [
        ("GET", {"bytes": 173792}, "whole"),
        ("HEAD", {"bytes": 0}, "asked"),
        ("GET", {"bytes": 65536}, "cut"),
        ("GET", {"bytes": 173792, "length": ""}, "whole"),
        ("GET", {"status": 206, "bytes": 1000, "length": "1000", "range": "bytes 0-999/173792"}, "piece"),
        (
            "GET",
            {"status": 206, "bytes": 792, "length": "792", "range": "bytes 173000-173791/173792"},
            "whole",
        ),
        ("GET", {"status": 206, "bytes": 700, "length": "792", "range": "bytes 173000-173791/173792"}, "cut"),
        ("GET", {"status": 206, "bytes": 500, "length": "500", "range": ""}, "piece"),
    ],
)
def test_a_head_or_a_cut_get_is_no_loader_sent_to_its_end(
    request_line: str, fields: dict[str, Any], end: str
) -> None:
    """EDK2 asks for the size by HEAD first, and newer ones go on after a cut by a range up to the end."""
    text = line(f"{request_line} /loader/ipxe-x86_64.efi HTTP/1.1", **({"length": "173792"} | fields))

    ((_, _, request),) = requests_in(text.encode())

    assert end == request.end
    assert (end == "whole") == ("loader-sent" in of_request(request).marks)


def test_what_was_cut_and_what_came_whole_are_two_things(log: tuple[AccessLog, Path]) -> None:
    reader, path = log
    for method, sent in (("HEAD", 0), ("GET", 7), ("GET", 7), ("GET", 10)):
        append(path, line(f"{method} /loader/ipxe-x86_64.efi HTTP/1.1", bytes=sent))
    reader.look()

    assert [("asked", 1), ("cut", 2), ("whole", 1)] == [
        (one.end, one.count) for one in reader.requests_of(W1)
    ]


def test_a_line_from_before_nginx_told_of_lengths_is_read_as_before() -> None:
    told = json.loads(line("GET /loader/ipxe-x86_64.efi HTTP/1.1"))
    old = json.dumps(
        {key: told[key] for key in told if key not in {"length", "range"}}, separators=(",", ":")
    )

    assert ["whole"] == [request.end for _, _, request in requests_in(old.encode())]


def test_the_same_again_is_counted(log: tuple[AccessLog, Path]) -> None:
    """An image comes in hundreds of pieces of 16 MiB."""
    reader, path = log
    append(path, *[line(f"GET /artifacts/sha256/{SUM} HTTP/1.1", 206)] * 300)
    reader.look()

    (one,) = reader.requests_of(W1)
    assert 300 == one.count


def test_half_a_line_a_new_file_and_a_cut_one(log: tuple[AccessLog, Path]) -> None:
    reader, path = log
    reader.look()  # there is none yet
    text = line("GET /boot.ipxe HTTP/1.1")
    path.write_text(text[:40])
    reader.look()
    with path.open("a") as file:
        file.write(f"{text[40:]}\n")
    reader.look()
    assert 1 == len(reader.requests_of(W1))

    path.rename(path.with_suffix(".1"))
    append(path, line("GET /localboot.efi HTTP/1.1"))
    reader.look()
    reader.look()
    assert "localboot" == reader.requests_of(W1)[-1].what

    path.write_text("")
    reader.look()
    append(path, line("GET /ipxe?mac=x HTTP/1.1", 400))
    reader.look()
    assert "script" == reader.requests_of(W1)[-1].what
