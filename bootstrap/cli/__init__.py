"""THE COMMAND LINE: turns arguments into calls, and results into text on stdout; the only room with click and rich."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from bootstrap.errors import FirstlightError

# What the computer refuses to anybody, whatever we do: no bug of ours.
SURROUNDINGS = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 usage or config, 70 our bug, 130 Ctrl-C."""
    try:
        from bootstrap.cli.main import cli  # noqa: PLC0415  # so that importing this room loads no verb

        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, {signal.SIGINT}
        )  # bootstrap.environment may have let it wait
        result = cli.main(args=list(arguments), prog_name="deploy.py", standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that went away can still be told from a bug
    except (click.exceptions.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001  # the last catcher: a bug must say that it is one
        return explain(error)
    return result if isinstance(result, int) else 0


def explain(error: Exception) -> int:
    """Print what went wrong, with a traceback only if it is our bug; return the exit code."""
    if isinstance(error, FirstlightError):
        print(error, file=sys.stderr)  # noqa: T201  # the text is the product: no decoration, no wrapping
        return error.exit_code
    if isinstance(error, OSError) and error.errno in SURROUNDINGS:
        from bootstrap.disk import remedy  # noqa: PLC0415  # --help must not pay for it

        advice = remedy(error)
        said = f"{error.filename or 'the system'}: {error.strerror}{advice and '; '}{advice}"
        print(said, file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    traceback.print_exception(error)
    print("this is a bug of firstlight; please report it with the lines above", file=sys.stderr)  # noqa: T201
    return EXIT_BUG
