"""What healing has ordered the scorers of one home, and every order that ever was.

The orders in force are one file, replaced as a whole. Before they come into force they are sealed
under their digest, so that a replay of decisions finds what was ordered when they were taken.
"""

from pathlib import Path

import msgspec

from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.fallbacks import GROUPS
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.orders import Orders

SEALED = "orders"
"""Folder beside the file: `<digest>.json`, the sequence and the reasons of its first time."""


def read_orders(path: Path) -> Orders:
    """The orders in force; without a file, nothing is ordered.

    Raises:
        PermanentError: the file holds no orders that can be obeyed.
        UnavailableError: the disk does not answer.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Orders()
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from error
    return _parsed(content, path)


def write_orders(path: Path, orders: Orders) -> Orders:
    """Replace the orders; running scorers follow within a second. One writer at a time.

    Returns:
        What was written: the orders with a sequence above the one before.

    Raises:
        PermanentError: they name features or groups that do not exist; nothing was written.
    """
    _require_known(orders)
    try:
        before = read_orders(path).sequence
    except PermanentError:  # damaged: these orders replace it
        before = 0
    told = msgspec.structs.replace(orders, sequence=max(before + 1, orders.sequence))
    content = msgspec.json.encode(told)
    sealed = path.parent / SEALED / f"{told.digest}.json"
    if not sealed.exists():
        replace_file(sealed, content)
    replace_file(path, content)
    return told


def known_orders(path: Path) -> tuple[Orders, ...]:
    """Every order that was ever given, each once, in no particular order.

    Args:
        path: the file of the orders in force.

    Raises:
        PermanentError: a sealed order is not what its name says.
        UnavailableError: the disk does not answer.
    """
    found = []
    for sealed in sorted((path.parent / SEALED).glob("[!.]*.json")):
        orders = read_orders(sealed)
        if orders.digest != sealed.stem:
            raise PermanentError(
                f"found {sealed} with orders of digest {orders.digest[:12]}, expected its name",
                hint="restore the file: decisions under these orders cannot be replayed without",
            )
        found.append(orders)
    return tuple(found)


def why_frozen(path: Path) -> str | None:
    """Why nothing may be learnt now, by the orders in force; None: it may.

    Raises:
        PermanentError: the file holds no orders that can be obeyed.
        UnavailableError: the disk does not answer.
    """
    orders = read_orders(path)
    if not orders.learning_frozen:
        return None
    by = orders.because.get("learning_frozen", "an order")
    return f"learning is frozen by {by}: `fraud-platform heal status` says why"


def _parsed(content: bytes, path: Path) -> Orders:
    try:
        orders = msgspec.json.decode(content, type=Orders)
        _require_known(orders)
    except (msgspec.MsgspecError, UnicodeDecodeError, PermanentError) as error:
        raise PermanentError(
            f"found {path} is no file of orders: {error}",
            hint="let the healing controller write it again, or remove it to order nothing",
        ) from error
    return orders


def _require_known(orders: Orders) -> None:
    if unknown := sorted({*orders.quarantined} - {*GROUPS}):
        raise PermanentError(f"found groups {unknown} in orders, expected some of {[*GROUPS]}")
    if unknown := sorted({*orders.unit_factors} - {*FEATURE_NAMES}):
        raise PermanentError(f"found features {unknown} in orders, expected names of features")
