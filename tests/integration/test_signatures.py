"""Keys in files, and what counts as signed."""

from base64 import b64encode
from pathlib import Path

import pytest

from fraud_platform.adapters.signatures import Signer, is_signed, public_keys, signer_at
from fraud_platform.errors import PermanentError

# RFC 8032, section 7.1, TEST 2: seed, public key, message and signature.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_signature_of_the_standards_example_is_that_of_the_standard() -> None:
    signer = Signer(SEED)
    assert (signer.public, signer.sign(b"\x72")) == (PUBLIC, SIGNATURE)


@pytest.mark.parametrize("place", range(64))
def test_a_signature_with_one_flipped_bit_is_none(place: int) -> None:
    forged = bytearray(SIGNATURE)
    forged[place] ^= 1
    assert not is_signed(b"\x72", bytes(forged), PUBLIC)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = signer_at(tmp_path / "keys" / "promotion")
    again = signer_at(tmp_path / "keys" / "promotion")
    assert made == again
    assert (tmp_path / "keys" / "promotion").stat().st_mode & 0o777 == 0o600
    assert public_keys(tmp_path / "keys") == {made.key_id: made.public}


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    signer_at(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(PermanentError, match="others may use the key"):
        signer_at(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"no key", b64encode(bytes(31)), b64encode(bytes(33))])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.pub").write_bytes(content)
    with pytest.raises(PermanentError, match=r"one\.pub"):
        public_keys(tmp_path)


def test_a_lost_private_key_is_not_replaced_while_its_public_half_is_pinned(tmp_path: Path) -> None:
    made = signer_at(tmp_path / "key")
    (tmp_path / "key").unlink()
    with pytest.raises(PermanentError, match="no private key beside it"):
        signer_at(tmp_path / "key")
    assert public_keys(tmp_path) == {made.key_id: made.public}


def test_a_public_half_that_a_kill_left_unwritten_is_written_at_the_next_use(
    tmp_path: Path,
) -> None:
    made = signer_at(tmp_path / "key")
    (tmp_path / "key.pub").unlink()
    assert signer_at(tmp_path / "key") == made
    assert public_keys(tmp_path) == {made.key_id: made.public}


def test_a_key_is_not_told_where_it_is_printed() -> None:
    assert SEED.hex() not in repr(Signer(SEED))
    assert str(SEED) not in repr(Signer(SEED))
