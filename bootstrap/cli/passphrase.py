"""Where the passphrase of the CA keys comes from: a file of mode 0600 that FIRSTLIGHT_PASSPHRASE_FILE names."""

import os
from pathlib import Path

from bootstrap.keys import passphrase_from
from certs.secret import Secret

VARIABLE = "FIRSTLIGHT_PASSPHRASE_FILE"


def passphrase() -> Secret | None:
    """Return the passphrase in the named file, or None if no file is named.

    Raises:
        UsageError: the file cannot be read, is empty, or others can read it.
    """
    name = os.environ.get(VARIABLE)
    return passphrase_from(Path(name)) if name else None
