#!/usr/bin/env python3
"""Hands the command line to bootstrap.cli, inside the environment that bootstrap.environment prepares."""

import sys

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run firstlight and return its exit code; Ctrl-C while the modules are loaded is one too, without a traceback."""
    try:
        from bootstrap import environment  # noqa: PLC0415  # within the try, as all that takes time

        environment.enter(__file__, sys.argv[1:])
        from bootstrap.cli import run  # noqa: PLC0415  # its dependencies exist only from here on

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
