"""The tree over the log's rows: one hash that stands for all of them, and short proofs.

Hashing, proofs and their checks are those of RFC 6962 and RFC 9162, section 2.1 (SHA-256). A
frontier is what has to be kept to go on: the roots of the full subtrees, the largest first, one for
each bit of the size that is set.
"""

from collections.abc import Sequence
from hashlib import sha256

Frontier = tuple[bytes, ...]


def leaf_hash(data: bytes) -> bytes:
    """The hash of an entry."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def grown(frontier: Frontier, size: int, leaf: bytes) -> Frontier:
    """The frontier after one more leaf.

    Args:
        frontier: of the tree so far.
        size: its leaves.
        leaf: hash of the new entry.
    """
    kept = len(frontier)
    while size & 1:
        kept -= 1
        leaf = node_hash(frontier[kept], leaf)
        size >>= 1
    return (*frontier[:kept], leaf)


def root_of(frontier: Frontier) -> bytes:
    """The root of the tree with this frontier.

    Examples:
        >>> root_of(()).hex()[:8]  # RFC 6962: of no entries
        'e3b0c442'
    """
    if not frontier:
        return sha256().digest()
    *left, root = frontier
    for subtree in reversed(left):
        root = node_hash(subtree, root)
    return root


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes.

    Examples:
        >>> root([leaf_hash(b"")]).hex()[:8]
        '6e340b9c'
    """
    frontier: Frontier = ()
    for size, leaf in enumerate(leaves):
        frontier = grown(frontier, size, leaf)
    return root_of(frontier)


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What proves that a leaf is in the tree: its siblings, from the leaf up.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"found leaf {index}, expected one of {len(leaves)}")
    path = []
    while len(leaves) > 1:
        half = _half(len(leaves))
        if index < half:
            path.append(root(leaves[half:]))
            leaves = leaves[:half]
        else:
            path.append(root(leaves[:half]))
            leaves, index = leaves[half:], index - half
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], top: bytes) -> bool:
    """Whether a leaf is at this index of the tree of this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(sides := _sides(index, size - 1)) != len(path):
        return False
    for sibling, is_left in zip(path, sides, strict=True):
        leaf = node_hash(sibling, leaf) if is_left else node_hash(leaf, sibling)
    return leaf == top


def consistency(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """What proves that the tree of the first leaves became this one: nothing of it was changed.

    Raises:
        ValueError: the old tree is empty or larger than this one.
    """
    if not 0 < old_size <= len(leaves):
        raise ValueError(f"found an old size of {old_size}, expected 1 to {len(leaves)}")
    path = []
    is_whole = True
    while old_size < len(leaves):
        half = _half(len(leaves))
        if old_size <= half:
            path.append(root(leaves[half:]))
            leaves = leaves[:half]
        else:
            path.append(root(leaves[:half]))
            leaves, old_size, is_whole = leaves[half:], old_size - half, False
    return ([] if is_whole else [root(leaves)]) + path[::-1]


def is_consistent(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether the tree of the new root begins with that of the old one (RFC 9162, 2.1.4.2)."""
    if not 0 < old_size <= new_size:
        return False
    if old_size == new_size:
        return not path and old_root == new_root
    whole = (old_size & -old_size).bit_length() - 1  # levels of the last full subtree of the old
    sides = _sides((old_size - 1) >> whole, (new_size - 1) >> whole)
    first, *rest = [old_root, *path] if old_size == 1 << whole else [*path] or [b""]
    if len(rest) != len(sides):
        return False
    old = new = first
    for sibling, is_left in zip(rest, sides, strict=True):
        old = node_hash(sibling, old) if is_left else old
        new = node_hash(sibling, new) if is_left else node_hash(new, sibling)
    return old == old_root and new == new_root


def _sides(index: int, last: int) -> list[bool]:
    """For each sibling on the way up from a node: whether it is at the left.

    Args:
        index: of the node in its level.
        last: index of the last node of that level.
    """
    sides = []
    while last:
        is_left = bool(index & 1) or index == last
        sides.append(is_left)
        while is_left and not index & 1:  # the last node of a level rises until it has a sibling
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    return sides


def _half(size: int) -> int:
    """The largest power of two below a size of at least two."""
    return int(1 << (size - 1).bit_length() - 1)
