"""Where the last check of the audit log ended without a finding: signed, so that nobody moves it.

Whoever could write it elsewhere would have rows passed over that nobody ever checked. A mark that
is missing, changed, of another log, or of a check that went by less, is no mark: then all is
checked. It lies beside the log, and so does the key that signs it: who has that key is not bound.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from fraud_platform.adapters.audit_store import packed, unpacked
from fraud_platform.adapters.sealed_folder import read_regular, replace_file
from fraud_platform.adapters.signatures import Signer, is_signed
from fraud_platform.audit_log.heads import ORIGIN, parse_head
from fraud_platform.audit_log.verification import Checked
from fraud_platform.errors import BundleIntegrityError

_MEANING = b"fraud-platform/verified\n"
"""Stands before what is signed: no head, and nothing else that the key signs, begins so."""
_MOST_BYTES = 1 << 16


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    note: str
    chain: bytes
    frontier: bytes
    epoch: int
    has_macs: bool
    has_anchor: bool


class _Sealed(msgspec.Struct, frozen=True):
    mark: msgspec.Raw
    signature: bytes


class Basis(NamedTuple):
    """What a check goes by beside the log.

    Attributes:
        public: the key that signs heads, 32 bytes.
        has_macs: whether the first key of the MACs is there.
        has_anchor: whether heads from elsewhere are there.
    """

    public: bytes
    has_macs: bool
    has_anchor: bool


def write_mark(path: Path, checked: Checked, basis: Basis, signer: Signer) -> None:
    """Keep where a check ended.

    Args:
        path: of the mark.
        checked: where.
        basis: what the check went by.
        signer: of the log's heads.
    """
    mark = msgspec.json.encode(
        _Mark(
            note=checked.note,
            chain=checked.chain,
            frontier=packed(checked.frontier),
            epoch=checked.epoch,
            has_macs=basis.has_macs,
            has_anchor=basis.has_anchor,
        )
    )
    sealed = _Sealed(msgspec.Raw(mark), signer.sign(_MEANING + mark))
    replace_file(path, msgspec.json.encode(sealed), mode=0o600)


def read_mark(path: Path, name: str, basis: Basis) -> Checked | None:
    """Where the last check ended, if it may be believed and went by no less than this one.

    Args:
        path: of the mark.
        name: of the log.
        basis: what this check goes by.
    """
    try:
        sealed = msgspec.json.decode(read_regular(path, most_bytes=_MOST_BYTES), type=_Sealed)
        if not is_signed(_MEANING + bytes(sealed.mark), sealed.signature, basis.public):
            return None
        mark = msgspec.json.decode(sealed.mark, type=_Mark)
    except (BundleIntegrityError, msgspec.MsgspecError):
        return None
    went_by_less = basis.has_macs > mark.has_macs or basis.has_anchor > mark.has_anchor
    if went_by_less or parse_head(mark.note).origin != ORIGIN + name:
        return None
    return Checked(
        note=mark.note, chain=mark.chain, frontier=unpacked(mark.frontier), epoch=mark.epoch
    )
