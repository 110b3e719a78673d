from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import packages
from bootstrap.errors import PreflightError
from bootstrap.progress import silent

Tool = Callable[[str, str], Path]
Calls = Callable[[str], list[str]]

ONLY_NGINX = (
    "print('nginx installed')\nprint('zstd config-files')\nprint('fdisk half-installed')\nsys.exit(1)"
)
NOTES_POLICY = "p = {!r}; open(p + '.seen', 'a').write(oct(os.stat(p).st_mode)[-3:] + open(p).read())"


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", path)
    return path


@pytest.fixture
def debian(tool: Tool, policy: Path) -> None:
    """A Debian that has nginx, remnants of zstd and fdisk, and an apt-get that works."""
    tool("dpkg-query", ONLY_NGINX)
    tool("apt-get", NOTES_POLICY.format(str(policy)))


@pytest.mark.usefixtures("debian")
def test_missing_is_what_is_not_wholly_installed_in_the_order_asked() -> None:
    assert packages.missing(("zstd", "nginx", "mtools", "fdisk")) == ("zstd", "mtools", "fdisk")


@pytest.mark.usefixtures("debian", "as_root")
def test_nothing_is_done_when_nothing_is_missing(calls: Calls, policy: Path) -> None:
    said: list[str] = []

    assert packages.ensure(("nginx",), lambda what, *_: said.append(what)) == ()

    assert calls("apt-get") == said == []
    assert not policy.exists()


@pytest.mark.usefixtures("debian", "as_root")
def test_exactly_the_missing_packages_are_named_and_installed(calls: Calls) -> None:
    said: list[str] = []

    installed = packages.ensure(("nginx", "zstd", "mtools"), lambda what, *_: said.append(what))

    assert installed == ("zstd", "mtools")
    assert said == ["installing Debian packages: zstd mtools"]
    assert calls("apt-get") == ["update -qq", "install -y -qq --no-install-recommends zstd mtools"]


@pytest.mark.usefixtures("debian", "as_user")
def test_a_user_is_told_the_command(calls: Calls) -> None:
    with pytest.raises(PreflightError) as caught:
        packages.ensure(("nginx", "zstd", "mtools"), silent)

    assert str(caught.value).splitlines() == [
        "these Debian packages are missing: zstd mtools",
        "as root: apt-get install --no-install-recommends zstd mtools",
    ]
    assert calls("apt-get") == []


@pytest.mark.usefixtures("tool")
def test_another_system_is_told_that_it_is_no_debian() -> None:
    with pytest.raises(PreflightError, match="no Debian system"):
        packages.missing(("nginx",))


@pytest.mark.usefixtures("as_root")
def test_what_apt_said_last_is_shown_and_the_policy_removed(tool: Tool, policy: Path) -> None:
    tool("dpkg-query", ONLY_NGINX)
    tool(
        "apt-get",
        "print(*range(40), sep='\\n', flush=True); sys.stderr.write('E: no such package\\n'); sys.exit(100)",
    )

    with pytest.raises(PreflightError) as caught:
        packages.ensure(("zstd",), silent)

    lines = str(caught.value).splitlines()
    assert lines[0] == "apt-get update -qq failed (exit 100):"
    assert lines[-1] == "E: no such package"
    assert len(lines) == 11
    assert not policy.exists()


@pytest.mark.usefixtures("debian", "as_root")
def test_no_service_may_start_while_packages_are_installed(policy: Path) -> None:
    packages.ensure(("zstd",), silent)

    seen = policy.with_name("policy-rc.d.seen").read_text()
    assert seen == 2 * f"755{packages.POLICY_TEXT}"
    assert "exit 101" in seen
    assert not policy.exists()


@pytest.mark.usefixtures("debian", "as_root")
def test_the_policy_of_the_site_is_left_alone(policy: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 0\n")

    packages.ensure(("zstd",), silent)

    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.usefixtures("debian", "as_root")
def test_the_policy_that_a_killed_run_left_is_removed(policy: Path) -> None:
    policy.write_text(packages.POLICY_TEXT)

    packages.ensure(("zstd",), silent)

    assert not policy.exists()


@pytest.mark.usefixtures("as_root", "policy")
def test_a_question_of_a_package_does_not_hang(tool: Tool) -> None:
    tool("dpkg-query", ONLY_NGINX)
    tool("apt-get", "sys.exit(len(sys.stdin.read()))")

    assert packages.ensure(("zstd",), silent) == ("zstd",)


@pytest.mark.usefixtures("as_root", "policy")
@pytest.mark.parametrize("service", ["nginx", "tftpd-hpa"])
def test_debians_own_service_does_not_come_back_at_the_next_boot(
    tool: Tool, calls: Calls, service: str
) -> None:
    for name in ("dpkg-query", "apt-get", "systemctl"):
        tool(name, "")

    packages.ensure(("zstd", service), silent)

    assert calls("systemctl") == [f"disable --quiet {service}.service"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_lets_dpkg_finish_and_removes_the_policy(tool: Tool, policy: Path, tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    tool("dpkg-query", ONLY_NGINX)
    body = "import signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.2); open({!r}, 'w')"
    tool("apt-get", body.format(str(finished)))

    with pytest.raises(KeyboardInterrupt):
        packages.ensure(("zstd",), silent)

    assert finished.exists()
    assert not policy.exists()
