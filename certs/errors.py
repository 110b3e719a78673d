"""Every error this room raises on purpose; each text names the file and the remedy, never key material.

CertsError                  base
├── DamagedFile             a file does not hold what its name says
├── LostKey                 a certificate or public key stands without the private key it belongs to
├── WrongPassphrase         a key is encrypted, and no passphrase or a wrong one was given
├── ExpiredAuthority        a CA is not valid now, so nothing it signs would be accepted
├── UnknownCertificate      a name given by a person is no row of the table
├── BadName                 a name cannot stand in a certificate
├── RefusedRequest          a certificate signing request is not exactly the one that was wanted
└── UnusableFolder          the folder of keys cannot be read or written
"""


class CertsError(Exception):
    """Base of this room's errors, with a text for people: which file, what is wrong, what to do."""


class DamagedFile(CertsError):  # noqa: N818  # these names read as sentences where they are raised
    """A file does not hold what its name says."""


class LostKey(CertsError):  # noqa: N818  # as above
    """A certificate or public key stands without the private key it belongs to."""


class WrongPassphrase(CertsError):  # noqa: N818  # as above
    """A key is encrypted, and no passphrase or a wrong one was given."""


class ExpiredAuthority(CertsError):  # noqa: N818  # as above
    """A CA is not valid now."""


class UnknownCertificate(CertsError):  # noqa: N818  # as above
    """A name given by a person is no row of the table."""


class BadName(CertsError):  # noqa: N818  # as above
    """A name cannot stand in a certificate."""


class UnusableFolder(CertsError):  # noqa: N818  # as above
    """The folder of keys cannot be read or written."""


class RefusedRequest(CertsError):  # noqa: N818  # as above
    """A certificate signing request, or what a signer made of it, is not exactly what was wanted."""
