"""Looks after what nginx hands out without asking us: artifacts, the first script, loaders for network and disk."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bootstrap import sums
from bootstrap.disk import write_file
from bootstrap.errors import FirstlightError, ServeError
from bootstrap.localboot import KINDS, make_localboot
from bootstrap.records.ledger import Note
from bootstrap.records.transitions import APPLIANCE
from bootstrap.render.ipxe import boot_ipxe
from bootstrap.scrub import Scrubber
from web.loaders import HttpLoaders
from web.site import Site

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
# A pass reads a few hundred MB, at most: a disk does that in seconds, and rot is no matter of minutes.
SCRUB_SECONDS = 900.0
BUNDLE = Path("bundle")
BOOT_SCRIPT = "web/boot.ipxe"
LOADERS = tuple(Path("run") / kind.file for kind in KINDS)


class Scrubbing:
    """Goes round the files in a thread of its own; the current folder is the work folder."""

    def __init__(
        self,
        site: Site,
        scrubber: Scrubber,
        loaders: HttpLoaders,
        remake: Callable[[Path], object] = make_localboot,
    ) -> None:
        self._site = site
        self._loaders = loaders
        self._scrubber = scrubber
        self._remake = remake
        self._sums = {path: sum_of(path) for path in LOADERS}
        self._is_script_told = False
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
        scrubber.tell = self._tell

    def start(self) -> None:
        """Start the thread; the loaders are in their place before the first machine asks."""
        try:
            self._loaders.look(self._site.cluster.appliance.pxe.loader)
        except (OSError, FirstlightError) as error:
            log.warning("the loaders for UEFI HTTP boot could not be placed: %s", error)
        self._thread.start()

    def warm(self) -> None:
        """Read the images of all pools, so that no machine has to wait for it."""
        cluster = self._site.cluster
        for pool in cluster.pools:
            self._site.images(pool)

    def look(self) -> None:
        """Compare the small files with what they must be, and put right what is not.

        Raises:
            OSError: one cannot be read or written.
        """
        # Documents that are just being replaced look wrong for a moment, not twice.
        if not (is_as_rendered() or is_as_rendered()):
            self._mend_script()
        for damage in self._loaders.look(self._site.cluster.appliance.pxe.loader):
            self._tell(damage)
        for path, before in self._sums.items():
            found = sum_of(path)
            if before is not None and found != before:
                self._mend_loaders(path)
                return
            self._sums[path] = found

    def _mend_script(self) -> None:
        script = boot_ipxe(self._site.cluster.base_url).encode()
        with suppress(OSError):  # in a container it is not ours to write
            write_file(BUNDLE / BOOT_SCRIPT, script)
        if is_as_rendered():
            self._tell(f"{BUNDLE / BOOT_SCRIPT} was damaged or changed: written anew")
        elif not self._is_script_told:
            self._tell(
                f"{BUNDLE / BOOT_SCRIPT} or {BUNDLE / sums.NAME} is damaged: run deploy.py render again"
            )
            self._is_script_told = True

    def _mend_loaders(self, path: Path) -> None:
        """Make the loaders again; one that cannot be made is removed, and machines then boot by their own order."""
        path.unlink(missing_ok=True)
        try:
            self._remake(Path())
        except FirstlightError as error:
            log.warning("%s", error)
        self._sums = {path: sum_of(path) for path in LOADERS}
        self._tell(f"{path} was damaged or changed: made anew")

    def _tell(self, reason: str) -> None:
        log.critical("%s", reason)
        note = Note(who=APPLIANCE, what="damaged", log=APPLIANCE, machine="", reason=reason)
        try:
            self._site.ledger.note(note)
        except FirstlightError as error:
            log.warning("the damage could not be recorded: %s", error)

    def _run(self) -> None:
        read_at = time.monotonic()  # what machines are offered was read when it was first asked for
        told = ""
        while True:
            try:
                self.look()
                self.warm()
                if time.monotonic() - read_at > SCRUB_SECONDS:
                    self._scrubber.again()
                    read_at = time.monotonic()
                told = ""
            except (
                OSError
            ) as error:  # a full disk, a read-only one: told once, and tried again until it is mended
                if str(error) != told:
                    log.warning("could not look after the files: %s", error)
                told = str(error)
            except Exception:
                # The thread is the only one of its kind: whatever went wrong, the next round is to happen.
                log.exception("could not look after the files")
            time.sleep(LOOK_SECONDS)


def sum_of(path: Path) -> str | None:
    """Return the sha256 in hex of the file at `path`, or None if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def is_as_rendered() -> bool:
    """Return whether the first script is what was rendered, as far as there are sums."""
    try:
        sums.Sums(BUNDLE).read(BOOT_SCRIPT)
    except (ServeError, FileNotFoundError):
        return False
    return True
