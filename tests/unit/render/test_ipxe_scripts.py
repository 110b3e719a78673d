"""iPXE scripts: the right commands, and nothing that a machine says can become one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.errors import RenderError
from bootstrap.render import ipxe

BASE = "http://10.77.0.1:8080"
SECURE = "https://10.77.0.1:8443"
KERNEL = f"{BASE}/artifacts/sha256/{'a' * 64}"
INITRD = f"{BASE}/artifacts/sha256/{'b' * 64}"
hostile = st.text() | st.sampled_from(
    [
        "${mac}",
        "x\nshell",
        "a || shell",
        "a && reboot",
        "x\r\nprompt",
        "#",
        "\x1b[2J",
        "${",
        "a;b",
        "\\",
        "'\"",
        "é",
    ]
)


def install(reason: str = "w1: installing", args: tuple[str, ...] = ("boot=firstlight",)) -> str:
    return ipxe.install_script(
        kernel_url=KERNEL, initrd_url=INITRD, kernel_args=args, base=BASE, reason=reason
    )


def all_scripts(reason: str) -> dict[str, str]:
    return {
        "boot": ipxe.boot_ipxe(BASE),
        "loader": ipxe.loader_ipxe(SECURE, BASE),
        "install": install(reason),
        "local-bios": ipxe.local_script("bios", reason, BASE),
        "local-uefi": ipxe.local_script("uefi", reason, BASE),
        "wait": ipxe.wait_script(reason, 30, BASE),
        "leave": ipxe.leave_script(reason),
        "exit": ipxe.exit_script(reason),
        "sanboot": ipxe.sanboot_script(reason),
    }


def commands(script: str) -> list[str]:
    lines = (line.strip() for line in script.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "echo ", ":"))]


@pytest.mark.parametrize("name", sorted(all_scripts("x")))
def test_every_script_says_what_it_is_and_never_stops_at_a_prompt(name: str) -> None:
    script = all_scripts("because")[name]

    assert script.startswith("#!ipxe\n")
    assert script.endswith("\n")
    assert not re.search(r"^\s*(shell|prompt|config|login)\b", script, re.MULTILINE)
    assert not re.search(r"\|\|\s*(shell|prompt)", script)


@pytest.mark.parametrize("name", ["boot", "install", "wait"])
def test_a_script_that_goes_on_never_runs_off_its_end(name: str) -> None:
    last = commands(all_scripts("because")[name])[-1]

    assert last.startswith(("goto ", "chain ")), last
    assert last.startswith("goto ") or " || goto " in last


@pytest.mark.parametrize("name", ["loader", "local-bios", "local-uefi", "leave", "exit", "sanboot"])
def test_a_script_that_gives_up_fails_so_that_the_firmware_goes_on(name: str) -> None:
    # `exit 0` makes OVMF open its boot menu and stay there (UEFI 2.10, 3.1.3): success ends the boot order.
    assert commands(all_scripts("because")[name])[-1] == "exit 1"


@pytest.mark.parametrize("name", sorted(all_scripts("x")))
def test_every_jump_has_a_target(name: str) -> None:
    script = all_scripts("because")[name]
    labels = set(re.findall(r"^:(\w+)$", script, re.MULTILINE))

    assert set(re.findall(r"goto (\w+)", script)) <= labels


def test_the_first_script_tells_the_card_that_booted_and_encodes_free_text() -> None:
    chain = next(line for line in commands(ipxe.boot_ipxe(BASE)) if line.startswith("chain "))

    assert f"{BASE}/ipxe?mac=${{netX/mac:hexhyp}}&" in chain
    assert "net0" not in chain
    for free_text in ("serial", "manufacturer", "product"):
        assert f"{free_text}=${{{free_text}:uristring}}" in chain
    assert chain.endswith("|| goto refused")


@pytest.mark.parametrize("name", ["boot", "install"])
def test_the_pause_before_trying_again_grows_and_stops_growing(name: str) -> None:
    script = all_scripts("because")[name]

    assert "set wait:int32 2\n" in script
    assert "iseq ${wait} 32 || inc wait ${wait}\n" in script


def test_the_install_script_loads_and_starts_the_installer() -> None:
    script = commands(install(args=("boot=firstlight", "console=ttyS0,115200")))

    assert script[1:5] == [
        "imgfree",
        f"kernel {KERNEL} initrd=initrd boot=firstlight console=ttyS0,115200 || goto failed",
        f"initrd --name initrd {INITRD} || goto failed",
        "boot || goto failed",
    ]


def test_the_argument_by_which_efi_finds_the_initrd_is_there_once() -> None:
    assert install(args=("initrd=initrd", "a")).count("initrd=initrd") == 1


@pytest.mark.parametrize(
    "bad", ["", "a b", "a\nb", "${x}", "a|b", "a&b", "a;b", "a'b", 'a"b', "a#b", "é", "a\\b"]
)
def test_an_unsafe_argument_is_refused(bad: str) -> None:
    with pytest.raises(RenderError, match="safe"):
        install(args=(bad,))
    with pytest.raises(RenderError, match="safe"):
        ipxe.install_script(kernel_url=bad, initrd_url=INITRD, kernel_args=(), base=BASE, reason="x")


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_a_pause_is_between_a_second_and_an_hour(seconds: int) -> None:
    with pytest.raises(RenderError, match="wait"):
        ipxe.wait_script("because", seconds, BASE)


def test_an_installed_machine_is_sent_to_its_disk_by_a_search_and_else_to_the_first() -> None:
    bios = commands(ipxe.local_script("bios", "installed", BASE))
    uefi = commands(ipxe.local_script("uefi", "installed", BASE))

    assert bios[1:3] == [
        f"chain --autofree {BASE}/localboot.pxe || goto first",
        "sanboot --no-describe --drive 0x80 || goto failed",
    ]
    assert f"chain --autofree {BASE}/localboot.efi || goto failed" in uefi
    assert "sanboot" not in "\n".join(uefi)


def test_an_unknown_machine_is_told_how_to_become_known() -> None:
    script = ipxe.leave_script(ipxe.unknown_reason("52:54:00:77:00:09"))

    assert "echo firstlight: 52:54:00:77:00:09 is not in config.yaml." in script
    assert "machines:" in script


@given(hostile)
def test_a_reason_is_one_safe_line(text: str) -> None:
    shown = ipxe.on_console(text)

    assert re.fullmatch(r"[A-Za-z0-9 ._:/=,@+()-]{1,200}", shown)


@given(hostile)
def test_a_hostile_reason_changes_no_line_but_its_own(text: str) -> None:
    plain = all_scripts("because")
    for name, script in all_scripts(text).items():
        said = f"echo firstlight: {ipxe.on_console(text)}"
        assert script == plain[name].replace("echo firstlight: because", said), name


@given(st.text(), st.text())
def test_an_argument_is_refused_or_changes_one_word(first: str, second: str) -> None:
    try:
        script = install(args=(first, second))
    except RenderError:
        return
    kernel = next(line for line in script.splitlines() if line.startswith("kernel "))

    assert kernel.split(" ") == ["kernel", KERNEL, "initrd=initrd", first, second, "||", "goto", "failed"]
    assert script.count("\n") == install(args=("a", "b")).count("\n")


def test_sanboot_starts_the_first_disk_and_else_gives_back_to_the_firmware() -> None:
    script = commands(ipxe.sanboot_script("installed"))

    assert script[:3] == [
        "sleep 3 || exit 1",
        "sanboot --no-describe --drive 0x80 || goto failed",
        "sleep 3 || exit 1",
    ]


def test_the_first_script_asks_whether_a_refusal_was_the_answer_before_it_asks_again() -> None:
    script = ipxe.boot_ipxe(BASE)
    first, second = (line for line in commands(script) if line.startswith("chain "))

    assert first.endswith("|| goto refused")
    assert second.startswith(f"chain --replace --autofree {BASE}/ipxe/leave?mac=${{netX/mac:hexhyp}}&")
    assert second.endswith("|| goto failed")
    assert script.index(first) < script.index(":refused") < script.index(second) < script.index(":failed")


def test_the_script_in_a_loader_starts_nothing_but_what_comes_by_https_from_us() -> None:
    script = commands(ipxe.loader_ipxe(SECURE, BASE))
    started = [line for line in script if line.startswith(("chain", "boot", "autoboot", "kernel", "sanboot"))]

    assert started == [f"chain --replace --autofree {SECURE}/boot.ipxe || goto refused"]
    assert [line for line in script if BASE in line] == [
        f"imgfetch --name refused {BASE}/ipxe/refused?mac=${{netX/mac:hexhyp}}&error=${{error}} ||"
    ]
    assert "filename" not in " ".join(script)
    assert "next-server" not in " ".join(script)


def test_the_live_system_gets_our_authority_where_it_is_asked_for() -> None:
    path = "/etc/ssl/certs/x.pem"
    script = ipxe.install_script(
        kernel_url=KERNEL, initrd_url=INITRD, kernel_args=(), base=SECURE, reason="x", authority=path
    )

    found = commands(script)
    line = f"initrd --name authority {SECURE}/provisioning-ca.crt {path} mode=644 || goto failed"
    assert found.index(f"initrd --name initrd {INITRD} || goto failed") < found.index(line)
    assert found.index(line) < found.index("boot || goto failed")
    assert "authority" not in install()
