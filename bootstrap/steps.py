"""The steps of a run, in order: check, keys, programs, render, plan, image build, lab up, apply, serve."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bootstrap import background, binaries, node_programs, packages
from bootstrap.adding import bring, given
from bootstrap.adding.bring import Brought, Wait
from bootstrap.adding.rendering import choose, chosen, warnings
from bootstrap.apply.control_plane import apply_cluster
from bootstrap.apply.run import Outcome
from bootstrap.apply.sites import site_of, trees_with
from bootstrap.containers.serving import publish
from bootstrap.disk import finish_bundle, read_bundle, write_bundle
from bootstrap.engines import engine_of
from bootstrap.errors import PreflightError
from bootstrap.gpu.images import image_driver, in_image, instead
from bootstrap.image import host as host_root
from bootstrap.image.debian import HOST_PACKAGES, build, find
from bootstrap.image.modules import DriverError
from bootstrap.image.recipe import FAMILY as BUILT_HERE
from bootstrap.image.recipe import Driver, Options
from bootstrap.joining import joining
from bootstrap.keys import ensure_keys
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.tree import LocalFile
from bootstrap.lab.rack import Rack
from bootstrap.leaving import administrator
from bootstrap.mirror import loaders
from bootstrap.mirror.adopt import adopt, lacks, makers
from bootstrap.mirror.folder import folder_of
from bootstrap.model import Cluster, DebianImage, Os, Pool
from bootstrap.operator import Operator
from bootstrap.plan import plan
from bootstrap.pool_images import image_for
from bootstrap.power import PowerState
from bootstrap.progress import Progress, Reporter
from bootstrap.render.bundle import Bundle, digest, render_bundle
from bootstrap.rendering import with_lab_key
from bootstrap.workplace import Workplace
from certs.keyring import Keyring, PublicKeyring
from certs.secret import Secret

NAMESPACES = Path("/run/netns")
NEEDS_RESTART = ("appliance/", "pxe/", "web/")  # what the processes read at their start; the rest is reloaded


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every step of one command knows."""

    configs: tuple[Path, ...]
    place: Workplace
    cluster: Cluster
    reporter: Reporter
    passphrase: Secret | None = None
    ask: Callable[[str], bool] | None = None

    @property
    def base(self) -> Path:
        """Return the folder where relative paths of the configuration begin: that of its last file."""
        return self.configs[-1].resolve().parent


@dataclass(frozen=True)
class Undo:
    """How to take back what a run started, newest first."""

    actions: list[Callable[[], object]]

    def add(self, action: Callable[[], object]) -> None:
        """Remember an action, before the thing it takes back is begun."""
        self.actions.append(action)

    def all(self) -> None:
        """Take everything back."""
        while self.actions:
            self.actions.pop()()


def check(configs: Sequence[Path], cluster: Cluster, reporter: Reporter) -> None:
    """Say what was checked: a configuration with problems never gets this far."""
    with reporter.step("check"):
        kinds = f"{len(cluster.machines)} machines in {len(cluster.pools)} pools"
        given.check(cluster, configs[-1].resolve().parent)
        reporter.say(
            f"{' + '.join(map(str, configs))}: cluster {cluster.metadata.name}, {kinds}, no problems"
        )


def keys(run: Run) -> Keyring:
    """Make the keys and certificates that are missing or out of date."""
    with run.reporter.step("keys"):
        run.place.make()
        made = ensure_keys(run.cluster, run.place.work, datetime.now(UTC), run.passphrase)
        tell(run.reporter, made.lines, nothing="every key and certificate is in order")
    return made.keyring


def programs(run: Run) -> Mapping[str, LocalFile]:
    """Find the programs of Kubernetes and etcd, and put what nodes fetch where they can fetch it.

    Raises:
        PreflightError: some are missing, damaged, or of another version; names all of them.
        ImageError: what makes them failed.
    """
    if not run.cluster.control_plane.hosts:
        return {}
    with run.reporter.step("programs") as progress:
        found = binaries.resolve(run.cluster, base=run.base, cache=run.place.cache, progress=progress)
        plugins = binaries.plugins_for_nodes(run.cluster, found)
        node_programs.record(run.place.work, binaries.node_artifacts(found, run.place.cache, plugins))
        run.reporter.say(f"Kubernetes {run.cluster.kubernetes.version}: {', '.join(found)}")
    return found


def render(run: Run, keyring: PublicKeyring) -> Bundle:
    """Render every document; writes none of them."""
    with run.reporter.step("render"):
        work = run.place.work
        bundle = render_bundle(with_lab_key(run.cluster, work), keyring, joining(run.cluster, work, keyring))
        run.reporter.say(f"{len(bundle)} documents, {digest(bundle)[:12]}")
    return bundle


def write(run: Run, bundle: Bundle) -> tuple[str, ...]:
    """Show what the documents change, then write them; return the paths of those that changed."""
    with run.reporter.step("plan"):
        finish_bundle(run.place.bundle)
        before = read_bundle(run.place.bundle)
        tell(run.reporter, plan(before, bundle).lines, nothing="no document changes")
        write_bundle(run.place.bundle, bundle)
    return tuple(sorted(path for path in {*before, *bundle} if before.get(path) != bundle.get(path)))


@dataclass(frozen=True)
class Built:
    """The names of the images that were built now, and of those in whose place an earlier one `stays`."""

    names: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()


def build_images(run: Run, *, update: bool = False) -> Built:
    """Build the images that the pools need and that are not there.

    iPXE loaders that the configuration names by URL are brought too. With `update`, images with a driver for which
    Debian has another kernel or driver by now are built anew. Where a driver does not build and an earlier image is
    there, that one stays; it is said, and the rest goes on.

    Raises:
        PreflightError: a pool wants an image that is not built here and was not mirrored, or a loader is not to be had.
        ImageError: one could not be built.
    """
    built, stays = [], []
    with run.reporter.step("image build") as progress:
        here = [pool for pool in run.cluster.pools if pool.os.family == BUILT_HERE]
        wanted = {(pool.os, image_driver(pool)): pool for pool in here if members(run.cluster, pool.name)}
        if wanted:
            packages.ensure(HOST_PACKAGES, progress)
        for pool in wanted.values():
            try:
                built += _build(run, pool, progress, update=update)
            except DriverError as error:
                if image_for(run.place.cache, pool) is None:
                    raise
                run.reporter.say(str(error))
                stays.append(image_name(pool))
        built += _take(run, progress)
        for name in loaders.bring(run.cluster, run.base, run.place.cache, progress):
            run.reporter.say(f"iPXE: {name}")
        host_root.for_lab(run.cluster, run.place.cache, progress)
    return Built(tuple(built), tuple(stays))


def _build(run: Run, pool: Pool, progress: Progress, *, update: bool) -> list[str]:
    """Build the image of `pool` if need be, and say which it is; return its name if it was built now."""
    wanted, cache, name = options(pool, run.cluster.images.debian), run.place.cache, image_name(pool)
    before = find(wanted, cache)
    try:
        manifest = build(wanted, cache, progress, update=update)
    except DriverError as error:
        raise DriverError(f"{error}; {_other(run, pool)}", error.pair) from error
    pair = f", NVIDIA {manifest.driver_version} for {manifest.kernel_version}" if manifest.driver else ""
    run.reporter.say(f"{name}: {manifest.key[:12]}{pair}")
    return [] if before == manifest else [name]


def _other(run: Run, pool: Pool) -> str:
    """Return what there is in place of an image whose driver does not build: the last good one, and what to write."""
    source, good = in_image(pool), image_for(run.place.cache, pool)
    kept = (
        f"the image of {good.built} with {good.driver_version} for {good.kernel_version} stays; "
        if good
        else ""
    )
    return kept + (instead(pool, source) if source else "")


def _take(run: Run, progress: Progress) -> list[str]:
    """Take the makers' images from the mirror; return the names of those taken now. Raises as `build_images`."""
    if lines := lacks(run.cluster, run.base, run.place.cache):
        raise PreflightError("\n".join(lines))
    folder = folder_of(run.cluster, run.base, run.place.cache)
    taken = []
    for os_, maker in makers(run.cluster).items():
        manifest, is_new = adopt(os_, maker, folder, run.place.cache, progress)
        taken += [system_name(os_)] * is_new
        run.reporter.say(f"{system_name(os_)}: {manifest.version}, {manifest.key[:12]}")
    return taken


def options(pool: Pool, extra: DebianImage) -> Options:
    """Return what the image builder must know of a pool and of `images.debian`."""
    return Options(
        release=pool.os.release,
        kernel=pool.os.kernel,
        packages=extra.packages,
        mirror=extra.mirror,
        driver=_driver(pool),
    )


def _driver(pool: Pool) -> Driver | None:
    source = in_image(pool)
    if source is None:
        return None
    return Driver(
        title=source.title,
        branch=source.branch,
        source=source.names[0],
        packages=(*source.names[1:], *source.more),
        paired=source.names[1:],
    )


def members(cluster: Cluster, pool: str) -> tuple[str, ...]:
    """Return the names of the machines in `pool`."""
    return tuple(machine.name for machine in cluster.machines if machine.pool == pool)


def image_name(pool: Pool) -> str:
    """Return how people call the image of a pool."""
    driver = f", driver {image_driver(pool)}" if image_driver(pool) else ""
    return f"{system_name(pool.os)}{driver}"


def system_name(os_: Os) -> str:
    """Return how people call an operating system's image."""
    return f"{os_.family} {os_.release} ({os_.kernel} kernel)"


def lab_up(run: Run, undo: Undo) -> Rack | None:
    """Build the virtual rack, if the configuration has one; its machines stay off."""
    if run.cluster.lab is None:
        return None
    with run.reporter.step("lab up") as progress:
        rack = Rack(run.cluster, run.place.work)
        packages.ensure(packages.for_lab(bmcs=rack.has_bmcs), progress)
        if not (NAMESPACES / rack.namespace).exists():
            undo.add(rack.down)
        rack.up(progress, host_root.archives(run.cluster, run.place.cache), run.base)
    return rack


def apply(run: Run, keyring: Keyring, found: Mapping[str, LocalFile]) -> Outcome | None:
    """Bring the control-plane hosts to the configuration over SSH; None if there are none.

    Raises:
        FirstlightError: as `apply_cluster`.
    """
    if not run.cluster.control_plane.hosts:
        return None
    trees = trees_with(run.cluster, run.place, keyring, found)
    site = site_of(run.cluster, run.place.work, keyring, trees, passphrase=run.passphrase, ask=run.ask)
    return apply_cluster(site, run.reporter, datetime.now(UTC))


def has_addons(cluster: Cluster) -> bool:
    """Return whether `addons` has something to do: there are some, and hosts for the API that takes them."""
    return bool(cluster.control_plane.hosts and chosen(cluster))


def addons(run: Run, names: tuple[str, ...] = (), *, force: bool = False) -> Brought:
    """Bring the addons called `names` (none: all that are configured) to the cluster.

    What could not be done is in the result, and was said.

    Raises:
        UsageError: one is not configured, or the lab is not up.
        ConfigError: a folder of documents is wrong.
    """
    with run.reporter.step("addons"):
        items = choose(run.cluster, names)
        what = given.given(run.cluster, run.place.work, run.base)
        for one in items:
            tell(run.reporter, warnings(run.cluster, one, what), nothing="")
        api = Api(administrator(run.cluster, run.place.work))
        try:
            brought = bring.apply(api, run.cluster, items, what, Wait(tell=run.reporter.say), force=force)
        finally:
            api.close()
        if not brought.changed and not brought.failed:
            run.reporter.say(f"{', '.join(one.name for one in items)}: nothing changed")
    return brought


def serve(run: Run, rack: Rack | None, undo: Undo, *, changed: Collection[str]) -> tuple[str, ...]:
    """Have the appliance run in the background with today's documents, and the lab's machines switched on.

    Return the names of the machines that were off.
    """
    with run.reporter.step("serve") as progress:
        for line in engine_of(run.place, run.cluster).ensure(progress):
            run.reporter.say(line)
        pid = background.pid_of(run.place)
        if pid is not None and any(path.startswith(NEEDS_RESTART) for path in changed):
            run.reporter.say("what the appliance listens on or answers changed: restarting it")
            background.stop(run.place)
            pid = None
        elif pid is not None and changed:
            run.reporter.say("telling the appliance to read the documents again")
            publish(run.place)
            operator_of(run).reload()
        if pid is None:
            undo.add(lambda: background.stop(run.place))
            background.start(run.place, run.configs)
            run.reporter.say(
                f"appliance: {run.cluster.base_url} and {run.cluster.secure_url}, log {run.place.serve_log}"
            )
        else:
            run.reporter.say(f"the appliance runs already (pid {pid})")
        return switch_on(rack, run.reporter) if rack is not None else ()


def switch_on(rack: Rack, reporter: Reporter) -> tuple[str, ...]:
    """Switch on the lab's machines that are off, and return their names."""
    states = rack.states()
    were_off = tuple(name for name in rack.names if states[name] is PowerState.OFF)
    for name in were_off:
        rack.power_on(name)
        first = "network" if rack.network_first(name) else "disk"
        reporter.say(f"lab: {name} switched on, {first} first in its boot order")
    return were_off


def down(place: Workplace, cluster: Cluster, reporter: Reporter) -> None:
    """End the appliance and the lab; everything in the work folder stays."""
    if background.stop(place):
        reporter.say("appliance stopped")
    if cluster.lab is not None:
        Rack(cluster, place.work).down()
        reporter.say("lab is down")


def expected(cluster: Cluster) -> tuple[str, ...]:
    """Return the machines that install without being asked again: those of pools with `arm: auto`."""
    return tuple(machine.name for machine in cluster.machines if cluster.pool(machine.pool).arm == "auto")


def tell(reporter: Reporter, lines: Sequence[str], *, nothing: str) -> None:
    """Say each line, or that there was nothing to do."""
    for line in lines or ((nothing,) if nothing else ()):
        reporter.say(line)


def operator_of(run: Run) -> Operator:
    """Return the way to ask the running appliance."""
    return Operator(run.place.work)
