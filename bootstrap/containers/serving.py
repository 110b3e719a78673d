"""The engines podman and docker: web and pxe as two containers that live as long as the appliance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.containers import command, compose, images
from bootstrap.containers.dialect import EngineName
from bootstrap.containers.engine import Engine
from bootstrap.containers.homes import Homes
from bootstrap.containers.table import CACHE, CONTAINERS, Name, Root
from bootstrap.disk import write_file
from bootstrap.errors import UsageError
from bootstrap.model import Cluster
from bootstrap.model.appliance import Loader, Loaders
from bootstrap.progress import Progress, silent
from bootstrap.workplace import Workplace

NOTE = Path("run/engine")
"""Below the work folder, while containers of it may exist: which engine runs them."""
SETTINGS = Path("run/compose.env")
"""Below the work folder: what compose.yaml must be told of this cluster."""
FIRST_FREE_PORT = 1024
END_SECONDS = 30.0


class Containers:
    """Runs both parts in containers, each from its image; `namespace` is the lab's network, if there is a lab.

    Raises:
        UsageError: this engine cannot do what the configuration asks.
    """

    def __init__(
        self, place: Workplace, cluster: Cluster, name: EngineName, namespace: Path | None = None
    ) -> None:
        self._place = place
        self._cluster = cluster
        self._engine = Engine(name)
        self._namespace = namespace
        self._homes = Homes(place)
        _refuse(cluster, self._engine)

    def ensure(self, progress: Progress) -> tuple[str, ...]:
        """Build the images that are missing; return a line for each.

        Raises:
            PreflightError: the engine is missing or does not work.
            ImageError: an image could not be built or is not there.
        """
        self._engine.check()
        return images.ensure(self._cluster, self._engine, progress)

    def prepare(self) -> Path:
        """Make all that the containers mount; return the file of settings with which compose.yaml does the rest.

        Raises:
            PreflightError, ImageError: as `ensure`.
            OSError: the disk does not take the documents.
        """
        self.ensure(silent)
        write_file(self._place.work / NOTE, f"{self._engine.dialect.name}\n".encode())
        self._homes.make()
        settings = self._place.work / SETTINGS
        write_file(settings, compose.settings(self._roots(), images.wanted(self._cluster)).encode())
        return settings

    def command(self, part: Name, *words: str) -> Sequence[str]:
        """Return the command that runs the container of a part in the foreground."""
        this = command.Running(
            name=name_of(self._place, part),
            image=images.wanted(self._cluster)[part].tag,
            roots=self._roots(),
            namespace=self._namespace,
            files=loader_files(self._cluster, self._place.cache),
        )
        return command.run(self._engine.dialect, CONTAINERS[part], this, words)

    def before_start(self, part: Name) -> None:
        """Remove what is left of the part's last container: its client may be dead while it lives on.

        Raises:
            ServeError: the engine could not.
        """
        self._engine.remove(name_of(self._place, part))
        self._homes.forget(part)

    def follow(self) -> None:
        """Bring changed documents and keys to the containers.

        Raises:
            OSError: one is just being replaced, or the disk does not take it; the next call tries again.
        """
        self._homes.follow()

    @property
    def end_seconds(self) -> float:
        """Return how long a part may take to end, and its container to be removed, on a busy computer too."""
        return END_SECONDS

    @property
    def troubles(self) -> Path:
        """Return where web looks for what else does not run."""
        return self._homes.run_folder("web") / "troubles"

    def _roots(self) -> Mapping[Root, Path]:
        return {"work": self._place.work.resolve(), "cache": self._place.cache}

    def close(self) -> None:
        """Remove both containers and their folders."""
        end_containers(self._place)


def name_of(place: Workplace, part: Name) -> str:
    """Return the name of a container; clusters of one name in two work folders have one each."""
    return f"firstlight-{place.runtime.name}-{part}"


def loader_files(cluster: Cluster, cache: Path) -> tuple[tuple[Path, str], ...]:
    """Return the iPXE loaders of the configuration, and where both containers look for them (bootstrap/loaders.py).

    One that is not there is left out: podman would not start a container with it, and docker would make a folder of its
    name. Inside, pxe ends and names it with its key, and web serves on without it, as they do outside of containers.
    """
    loaders = cluster.appliance.pxe.loader
    found = []
    for kind in Loaders.model_fields:
        loader: Loader | None = getattr(loaders, kind)
        if loader is not None and loader.path is not None:
            found.append((Path(loader.path).absolute(), f"{Path(loader.path).absolute()}"))
        elif loader is not None:
            found.append((cache / "sha256" / loader.sha256, f"{CACHE}/sha256/{loader.sha256}"))
    return tuple((path, target) for path, target in dict.fromkeys(found) if path.is_file())


def running_engine(place: Workplace) -> EngineName | None:
    """Return the engine whose containers may exist for a work folder."""
    try:
        text = (place.work / NOTE).read_text().strip()
    except OSError:
        return None
    return "docker" if text == "docker" else "podman"


def publish(place: Workplace) -> None:
    """Bring today's documents to containers that run, before they are told to read them again; else do nothing.

    Raises:
        OSError: the disk does not take them.
    """
    if running_engine(place) is not None:
        Homes(place).publish()


def bring_back(place: Workplace) -> None:
    """Take over what web has accepted in a container that runs or ran; else do nothing.

    Raises:
        OSError: the disk does not take it.
        StateError: a file of the work folder is damaged.
    """
    if running_engine(place) is not None:
        Homes(place).bring_back()


def end_containers(place: Workplace) -> bool:
    """Remove the containers of a work folder, and their folders there; return whether there was one.

    Raises:
        ServeError: the engine could not; its folders stay.
    """
    name = running_engine(place)
    if name is None:
        return False
    engine = Engine(name)
    found = engine.containers_of(place.work.resolve())
    if found:
        engine.remove(*found)
    Homes(place).remove()
    for left in (SETTINGS, NOTE):
        (place.work / left).unlink(missing_ok=True)
    return bool(found)


def _refuse(cluster: Cluster, engine: Engine) -> None:
    name = engine.dialect.name
    if cluster.lab is not None and not engine.dialect.joins_namespaces:
        raise UsageError(
            f"appliance.engine: {name} cannot run a container in the lab's network; write podman or native"
        )
    ports = (cluster.appliance.http_port, cluster.appliance.https_port)
    if low := [port for port in ports if port < FIRST_FREE_PORT]:
        raise UsageError(
            f"appliance: port {low[0]} is for root, and web is not root in its container;"
            f" write one from {FIRST_FREE_PORT} on, or engine: native"
        )
