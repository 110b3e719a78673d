"""A symmetric key follows from a private key, the same every time and another for every purpose."""

from certs.derivation import BYTES, derived_key
from certs.pem import key_from, key_pem, new_key
from certs.secret import Secret


def test_it_is_the_same_for_the_same_key_however_it_is_written() -> None:
    key = new_key()
    pem = key_pem(key)
    again = key_pem(key_from(Secret(b"a comment\n" + pem.reveal()), None, where="x"))

    assert derived_key(pem, "a") == derived_key(again, "a")
    assert len(derived_key(pem, "a").reveal()) == BYTES == 32


def test_another_purpose_or_another_key_gives_another() -> None:
    one, other = key_pem(new_key()), key_pem(new_key())

    keys = [derived_key(one, "a"), derived_key(one, "b"), derived_key(other, "a")]
    assert not any(keys[i] == keys[j] for i in range(3) for j in range(i))


def test_it_tells_nothing_of_the_key_it_follows_from() -> None:
    pem = key_pem(new_key())
    number = key_from(pem, None, where="x").private_numbers().private_value.to_bytes(32)

    assert derived_key(pem, "a").reveal() != number
