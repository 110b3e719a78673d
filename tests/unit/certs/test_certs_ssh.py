"""SSH key pairs: the form OpenSSH reads, new each time, and nothing said of a damaged one."""

import pytest

from certs.errors import DamagedFile
from certs.secret import Secret
from certs.ssh import new_ssh_key, public_line


def test_a_new_key_is_an_ed25519_pair_in_openssh_form() -> None:
    key = new_ssh_key()

    assert key.reveal().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    kind, blob, comment = public_line(key, "firstlight-lab").split(" ")
    assert ("ssh-ed25519", "firstlight-lab") == (kind, comment)
    assert blob.startswith("AAAAC3NzaC1lZDI1NTE5AAAAI")


def test_each_key_is_another_and_its_line_stays_the_same() -> None:
    one, other = new_ssh_key(), new_ssh_key()

    assert public_line(one, "c") == public_line(one, "c")
    assert public_line(one, "c") != public_line(other, "c")


@pytest.mark.parametrize("damage", [b"", b"ssh-ed25519 AAAA", b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n"])
def test_a_damaged_key_is_refused_without_showing_it(damage: bytes) -> None:
    with pytest.raises(DamagedFile) as caught:
        public_line(Secret(damage), "c")

    assert "AAAA" not in str(caught.value)
