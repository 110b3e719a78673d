"""What goes into an image, what names it, and what is told when it cannot be built."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.containers import images, pins
from bootstrap.containers.dialect import DIALECTS, EngineName
from bootstrap.containers.engine import Engine
from bootstrap.containers.table import CONTAINERS
from bootstrap.errors import ImageError, PreflightError
from bootstrap.model import Cluster
from bootstrap.progress import silent

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
Tool = Callable[[str, str], Path]
LISTS = """
import sys, importlib.metadata
{}
known = importlib.metadata.packages_distributions()
found = {{name for module in sys.modules for name in known.get(module.partition(".")[0], ())}}
print(*sorted(name.lower().replace("_", "-") for name in found))
"""
ENTRIES = {"pxe": "import pxe.__main__, pxe.report", "web": "import web.__main__, web.server, granian.wsgi"}
NOT_ASKED_FOR = {"setuptools", "bcrypt", "python-dotenv"}
"""What others import where it is installed, and do without where it is not."""


@pytest.fixture
def cluster() -> Cluster:
    return config.load([ROOT / "configs/example.yaml"])


@pytest.mark.parametrize("part", CONTAINERS)
def test_pins_hold_all_that_the_container_s_code_imports(part: str) -> None:
    code = LISTS.format(ENTRIES[part])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split()) - NOT_ASKED_FOR

    pinned = pins.pins(LOCK, pins.ROOTS[part])
    names = {line.partition("==")[0] for line in pinned.splitlines() if line[:1].isalnum()}
    assert imported <= names
    assert all("--hash=sha256:" in entry for entry in pins._entries(pinned).values())


def test_pins_leave_out_what_only_others_need() -> None:
    pinned = pins.pins(LOCK, pins.ROOTS["pxe"])

    assert "requests==" in pinned
    assert "urllib3==" in pinned
    assert "flask==" not in pinned
    with pytest.raises(KeyError, match="not in the lock: nothing-like-it"):
        pins.pins(LOCK, ("nothing-like-it",))


def checkout(folder: Path) -> Path:
    for name in ("bootstrap", "certs", "configs", "pxe", "web"):
        (folder / name).mkdir()
        (folder / name / "code.py").write_text("x = 1\n")
    for name in (".dockerignore", "Dockerfile.pxe", "Dockerfile.web", "requirements.lock"):
        (folder / name).write_text("")
    return folder


def test_the_name_of_an_image_tells_all_that_goes_in(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    first = images.key("pxe", "debian:trixie-slim", root)
    assert first == images.key("pxe", "debian:trixie-slim", root)
    assert first != images.key("pxe", "debian:forky-slim", root)

    (root / "web" / "code.py").write_text("x = 2\n")
    assert first == images.key("pxe", "debian:trixie-slim", root)
    (root / "bootstrap" / "code.pyc").write_text("")
    assert first == images.key("pxe", "debian:trixie-slim", root)
    (root / "bootstrap" / "code.py").write_text("x = 2\n")
    assert first != images.key("pxe", "debian:trixie-slim", root)


APT_DUMP = """APT::Architecture "amd64";
Acquire::http::Proxy "http://proxy.example.net:3128";
Acquire::https::Timeout "20";
Acquire::Retries "3";
Acquire::Languages "none";
Dir::Etc::sourcelist "sources.list";
"""


def test_a_build_gets_the_proxies_of_apt_and_no_more() -> None:
    text = images.apt_conf(APT_DUMP, has_ca=True, has_sources=False)

    assert text.splitlines() == [
        'Acquire::http::Proxy "http://proxy.example.net:3128";',
        'Acquire::https::Timeout "20";',
        'Acquire::Retries "3";',
        'Acquire::https::CAInfo "/run/secrets/ca";',
    ]
    assert "sourcelist" in images.apt_conf("", has_ca=False, has_sources=True)


def test_a_build_gets_the_registries_of_pip_and_no_folder_of_this_computer() -> None:
    listed = (
        ":env:.index-url='https://pypi.example.net/simple'\n"
        "global.extra-index-url='file:///opt/a https://b.example.net/simple'\n"
        "global.find-links='/opt/wheels'\nglobal.cert='/etc/ssl/certs/ca-certificates.crt'\n"
    )

    assert images.pip_conf(listed).splitlines() == [
        "[global]",
        "extra-index-url = https://b.example.net/simple",
        "index-url = https://pypi.example.net/simple",
    ]


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("name", DIALECTS)
def test_a_missing_engine_is_named_with_its_package(name: EngineName) -> None:
    with pytest.raises(
        PreflightError, match=rf"{name} is not installed; install it: apt-get install .*{name}"
    ):
        Engine(name).check()


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        (
            "docker",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",
            "systemctl start docker",
        ),
        (
            "docker",
            "permission denied while trying to connect to the Docker daemon socket",
            "run this as root",
        ),
        (
            "podman",
            "default OCI runtime crun not found: executable file not found in $PATH",
            "apt-get install runc",
        ),
        ("podman", "error creating tmpdir: mkdir /run/x: permission denied", "run this as root"),
    ],
)
def test_an_engine_that_does_not_work_says_why_and_what_to_do(
    tool: Tool, name: EngineName, said: str, remedy: str
) -> None:
    tool(name, f"sys.stderr.write({said!r} + chr(10)); sys.exit(125)")

    with pytest.raises(PreflightError, match=f"{name} does not work: ") as caught:
        Engine(name).check()
    assert said in str(caught.value)
    assert remedy in str(caught.value)


def build(tool: Tool, cluster: Cluster, lines: str, code: int) -> str:
    tool("podman", f"print({lines!r}); sys.exit({code} if 'build' in sys.argv else 1)")
    with pytest.raises(ImageError) as caught:
        images.ensure(cluster, Engine("podman"), silent)
    return str(caught.value)


def test_a_base_image_that_is_not_here_is_named(tool: Tool, cluster: Cluster) -> None:
    text = build(tool, cluster, "Error: creating build container: debian:trixie-slim: image not known", 125)

    assert text.startswith("the base image docker.io/library/debian:trixie-slim is not on this computer")
    assert "appliance.containers.base" in text


def test_a_failed_build_shows_its_last_lines_and_not_the_dockerfile(tool: Tool, cluster: Cluster) -> None:
    noise = "[1/2] STEP 2/9: RUN apt-get\n--> 961230078b6\n"
    text = build(
        tool, cluster, f"{noise}E: Unable to locate package nginx\nError: {'x' * 999} {'y' * 999}", 100
    )

    assert text.startswith("Dockerfile.web could not be built:\n")
    assert "E: Unable to locate package nginx" in text
    assert "STEP" not in text
    assert max(map(len, text.splitlines())) <= 200


def test_a_docker_without_its_builder_says_what_to_install(tool: Tool, cluster: Cluster) -> None:
    said = "ERROR: BuildKit is enabled but the buildx component is missing or broken."
    tool("docker", f"print({said!r}); sys.exit(1)")

    with pytest.raises(ImageError, match="apt-get install docker-buildx"):
        images.ensure(cluster, Engine("docker"), silent)


def test_an_image_of_the_configuration_is_never_built(tool: Tool, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("appliance: {containers: {web: registry.example.net/web:1}}\n")
    given = config.load([ROOT / "configs/example.yaml", site])
    tool("podman", "sys.exit(1)")

    with pytest.raises(
        ImageError, match=r"appliance\.containers\.web: registry\.example\.net/web:1 is not on this"
    ):
        images.ensure(given, Engine("podman"), silent)


def test_progress_tells_the_steps_of_both_engines() -> None:
    for name, line in (
        ("podman", "[2/3] STEP 3/12: COPY --from=builder /opt /opt"),
        ("docker", "#9 [builder 3/12] COPY --from=builder /opt /opt"),
    ):
        found = DIALECTS[name].step.search(line)  # type: ignore[index]  # a literal, for whoever reads it
        assert found
        assert (found["done"], found["total"], found["what"]) == ("3", "12", "COPY --from=builder /opt /opt")
