"""Every error this project raises on purpose.

FirstlightError             base; the CLI prints its text without a traceback, exit 1
├── ConfigError             the configuration is wrong; carries every Problem; exit 2
├── UnknownChoice           a value names no file in the room it should come from; exit 2
├── UsageError              the command line asks for something impossible; exit 2
├── RenderError             a template or builder failed: our bug; exit 70
├── KeysError               keys are damaged, lost, locked or expired (bootstrap/keys.py)
├── StateError              the store could not do it
│   ├── Conflict            someone else wrote first; read again and retry
│   ├── IllegalTransition   no such arrow in the graph of machine states (bootstrap/states.py)
│   └── Refused             the machine's state does not allow it (bootstrap/records/transitions.py)
├── PreflightError          this computer lacks something; the text says what to install or change
├── MirrorError             something fetched, or the mirror's folder, is not what it should be
├── ImageError              an image could not be built or found
│   └── DriverError         NVIDIA's driver does not build for the image's kernel (bootstrap/image/modules.py)
├── HostError               a control-plane host was not reached or not changed (bootstrap/host_errors.py)
├── BackupError             a backup could not be made, or is none that can be brought back
├── EtcdError               etcd did not answer, or not what it should (bootstrap/etcd.py)
├── ApplyError              the control plane does not do what it should after it was applied
├── ApiError                the Kubernetes API did not do it
│   ├── ApiDown             no API server answered in time: ask again later
│   └── ApiRefused          it answered no; carries the HTTP status
│       └── NoSuchKind      it has no such kind of object (bootstrap/adding/objects.py)
├── PodsStay                a node's pods did not leave in time (bootstrap/kubernetes/leaving.py)
├── LabError                the virtual rack could not be built or reached
├── PowerError              a machine could not be switched, or not be asked
│   └── PowerUnsupported    its power driver has no way to do that
└── ServeError              a part of the appliance did not start or died
    └── NotRunning          no appliance answers on the operator socket (bootstrap/operator.py)
"""

from dataclasses import dataclass


class FirstlightError(Exception):
    """Base of all errors with a text for people: what is wrong, and what to do about it."""

    exit_code = 1


def printable(text: str) -> str:
    """Return `text` on one line, with an escape in place of what a terminal would obey or not show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@dataclass(frozen=True, order=True, kw_only=True)
class Problem:
    """One thing that is wrong with the configuration, and where.

    `line` and `column` count from 1; `path` is the dotted key (`machines.2.mac`); `message` holds the value
    found and what to write instead.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """Return one line in the form compilers use, so that editors can jump to it.

        A key may hold anything that YAML can escape; a terminal that shows it must not obey it.
        """
        subject = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {printable(subject + self.message)}"


class ConfigError(FirstlightError):
    """The configuration is wrong; `problems` holds all of it, in file order."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownChoice(FirstlightError):  # noqa: N818  # reads as a sentence where it is raised
    """A value names no file in the room it should come from."""

    exit_code = 2


class UsageError(FirstlightError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class RenderError(FirstlightError):
    """A template or a builder failed; the input was already checked, so the bug is ours."""

    exit_code = 70


class StateError(FirstlightError):
    """The store could not do what was asked."""


class Conflict(StateError):  # noqa: N818  # reads as a sentence where it is raised
    """Someone else wrote first: read again and decide again."""


class PreflightError(FirstlightError):
    """This computer lacks something that the command needs."""


class MirrorError(FirstlightError):
    """What was fetched, or lies in the mirror, cannot be believed; nothing of it is used."""


class ImageError(FirstlightError):
    """An operating system image could not be built, or is not there."""


class HostError(FirstlightError):
    """The control-plane host called `host` could not be reached, or not be brought to what it should be."""

    def __init__(self, host: str, text: str) -> None:
        self.host = host
        super().__init__(text)


class BackupError(FirstlightError):
    """A backup could not be made or not be brought back; what was there is as it was."""


class EtcdError(FirstlightError):
    """Etcd did not do what it was asked in time."""


class ApplyError(FirstlightError):
    """The control plane as a whole is not what it should be; the text says which part and what to do."""


class ApiError(FirstlightError):
    """The Kubernetes API did not do what was asked."""


class ApiDown(ApiError):  # noqa: N818  # reads as a sentence where it is raised
    """No API server answered in time; what was asked may have been done all the same."""


class ApiRefused(ApiError):  # noqa: N818  # as above
    """The Kubernetes API answered with a refusal; `status` is the HTTP status, 0 if it never got so far."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)


class LabError(FirstlightError):
    """The virtual rack could not be built, reached or taken down."""


class PowerError(FirstlightError):
    """A machine could not be switched on or off, or nobody could tell what it is."""


class PowerUnsupported(PowerError):  # noqa: N818  # reads as a sentence where it is raised
    """The machine's power driver has no way to do what was asked."""


class ServeError(FirstlightError):
    """A part of the appliance did not start, or died and could not be restarted."""
