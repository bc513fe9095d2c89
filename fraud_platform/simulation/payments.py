"""The columns that every maker of payments fills, and the frame they become."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.schemas import PAYLOAD_COLUMNS, UTC_MICROSECONDS
from fraud_platform.simulation.population import Floats, Ints, Terminals

METHODS = ("chip", "contactless", "online", "wallet")
CHIP, CONTACTLESS, ONLINE, WALLET = range(4)
FRAUD_TYPES = (
    "stolen_card",
    "compromised_terminal",
    "card_testing",
    "account_takeover",
    "amount_outlier",
)
LABELLED_PAYLOAD: dict[str, pl.DataType] = {
    **PAYLOAD_COLUMNS,
    "is_fraud": pl.Boolean(),
    "label_timestamp": UTC_MICROSECONDS,  # when the chargeback became known; null for genuine
    "fraud_type": pl.String(),  # null for genuine
}
"""What `simulate` gives and `inject` takes: the payments and what will be learned of them."""
NONE = -1  # no device, no fraud
MIN_AMOUNT_MINOR = 50
MAX_AMOUNT_MINOR = 20_000_00


@dataclass(frozen=True)
class Payments:
    """Payments as integer arrays of one shape (n,), in no particular order."""

    event_us: Ints
    """Microseconds since the world's start."""
    card: Ints
    terminal: Ints
    amount_minor: Ints
    method: Ints
    """Index into METHODS."""
    device: Ints
    """Number of the device, or NONE."""
    fraud: Ints
    """Index into FRAUD_TYPES, or NONE."""

    @property
    def size(self) -> int:
        """Number of payments."""
        return self.event_us.size

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Payments":
        """These rows, in this order; `rows` is an index or a mask."""
        return Payments(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def concatenate(parts: Sequence[Payments]) -> Payments:
    """All payments of all parts, in the order given."""
    return Payments(
        **{
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(Payments)
        }
    )


def to_minor(amounts: Floats) -> Ints:
    """Whole minor units between the smallest and the largest amount a card pays.

    Examples:
        >>> to_minor(np.array([12.0, 1234.4, 1e9])).tolist()
        [50, 1234, 2000000]
    """
    return np.clip(np.rint(amounts), MIN_AMOUNT_MINOR, MAX_AMOUNT_MINOR).astype(np.int64)


def to_frame(
    payments: Payments, terminals: Terminals, *, start_us: int, device_numbers: Ints
) -> pl.DataFrame:
    """Name things: PAYLOAD_COLUMNS and fraud_type, in the order of the payments.

    Args:
        payments: already in time order, because their ids count up.
        terminals: the places behind the terminal numbers.
        start_us: the world's start, microseconds since 1970-01-01 UTC.
        device_numbers: shuffled numbers, so that a name does not tell when a device first appeared.
    """
    web = payments.method == ONLINE
    terminal = payments.terminal
    return pl.DataFrame(
        {
            "transaction_id": _names("t", 10, np.arange(payments.size)),
            "event_timestamp": pl.Series(payments.event_us + start_us).cast(UTC_MICROSECONDS),
            "card_id": _names("c", 5, payments.card),
            "terminal_id": _names("m", 5, terminal),
            "amount_minor": payments.amount_minor,
            "currency": pl.repeat("EUR", payments.size, eager=True),
            "merchant_category": pl.Series(terminals.category.tolist()).gather(terminal),
            "payment_method": pl.Series(METHODS).gather(payments.method),
            "country": pl.Series(terminals.country.tolist()).gather(terminal),
            "device_id": _names("d", 6, _device_numbers(payments.device, device_numbers)),
            "entry_mode": pl.Series(["present", "not_present"]).gather(web.astype(np.int64)),
            "latitude": _unless(web, terminals.latitude[terminal]),
            "longitude": _unless(web, terminals.longitude[terminal]),
            "fraud_type": _or_null(pl.Series(FRAUD_TYPES), payments.fraud),
        }
    )


def _names(prefix: str, width: int, numbers: Ints) -> pl.Series:
    """`prefix` and the number, padded to `width` digits; null for NONE."""
    number = pl.Series(numbers)
    digits = number.cast(pl.String).str.zfill(width)
    return pl.select(pl.when(number >= 0).then(pl.lit(prefix) + digits)).to_series()


def _device_numbers(device: Ints, numbers: Ints) -> Ints:
    return np.where(device >= 0, numbers[np.maximum(device, 0)], NONE)


def _or_null(names: pl.Series, index: Ints) -> pl.Series:
    at = pl.Series(index)
    return names.gather(pl.select(pl.when(at >= 0).then(at)).to_series())


def _unless(hidden: NDArray[np.bool_], values: Floats) -> pl.Series:
    return pl.select(pl.when(~pl.Series(hidden)).then(pl.Series(values))).to_series()
