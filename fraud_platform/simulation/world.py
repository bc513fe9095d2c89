"""The whole world: customers pay by their habits, criminals join in, the bank learns later."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from fraud_platform.errors import PermanentError
from fraud_platform.events import microseconds
from fraud_platform.schemas import UTC_MICROSECONDS
from fraud_platform.simulation.fraud import (
    DAY_US,
    HOUR_US,
    ChargebackDelay,
    commit_frauds,
    uses_device,
)
from fraud_platform.simulation.payments import (
    CHIP,
    CONTACTLESS,
    LABELLED_PAYLOAD,
    NONE,
    ONLINE,
    WALLET,
    Payments,
    to_frame,
    to_minor,
)
from fraud_platform.simulation.population import Floats, Ints, Population, populate

WEEK = np.array([0.95, 0.95, 1.0, 1.05, 1.2, 1.25, 0.6])  # Monday to Sunday, mean 1
DAY_SHAPE = 3.0  # gamma shape of a card's busy and quiet days; smaller is burstier
# hour of the day, spread (hours), share: morning, noon, evening, any time
HOURS = np.array([[8.3, 1.2, 0.20], [12.7, 1.5, 0.30], [18.2, 2.0, 0.40], [14.0, 6.0, 0.10]])
AMOUNT_SIGMA = 0.5  # of the logarithm of a genuine amount
SPLURGE_SHARE = 0.004  # of the genuine payments are this much larger
SPLURGE_FACTOR = 4.0
STROLL_SHARE = 0.05  # of the payments happen at a shop that is nobody's favourite
COARSE_CLOCK_SHARE = 0.1  # of the terminals only know whole seconds, so exact ties occur
CONTACTLESS_LIMIT_MINOR = 50_00


@dataclass(frozen=True, kw_only=True)
class World:
    """One world; equal worlds give equal frames, byte for byte.

    The defaults make about 2,000 payments a day. 5,000 customers for 100 days make a million.
    """

    seed: int = 20_260_105
    """Seed of everything that is left to chance, >= 0."""
    start: datetime = datetime(2026, 1, 5, tzinfo=UTC)
    """First moment of the first day, midnight UTC. The world's clocks and weeks are UTC, too."""
    days: int = 75
    """Length, days."""
    customers: int = 1_000
    """Number of customers, one card each."""
    terminals: int = 600
    """Number of terminals; a fifth of them are web shops."""
    payments_per_day: float = 2.0
    """Genuine payments per customer and day, mean over customers."""
    fraud_rate: float = 0.01
    """Fraudulent payments as a share of all, about; in [0, 0.5]."""
    chargeback: ChargebackDelay = field(default_factory=ChargebackDelay)
    """How long after a fraud the bank learns of it."""

    def __post_init__(self) -> None:
        """Refuse a world that cannot be drawn.

        Raises:
            PermanentError: a number out of range, or a start that is not midnight UTC.
        """
        if self.start.utcoffset() != timedelta(0) or self.start.time() != datetime.min.time():
            raise PermanentError(
                f"World.start is {self.start.isoformat()}, expected midnight UTC.",
                hint="Pass e.g. datetime(2026, 1, 5, tzinfo=UTC).",
            )
        if min(self.days, self.customers, self.terminals - 1) < 1 or self.seed < 0:
            raise PermanentError(
                f"World has seed={self.seed}, days={self.days}, customers={self.customers}, "
                f"terminals={self.terminals}; expected >= 0, >= 1, >= 1, >= 2."
            )
        if not (0 <= self.fraud_rate <= 0.5 and 0 < self.payments_per_day <= 100):
            raise PermanentError(
                f"World has fraud_rate={self.fraud_rate} and "
                f"payments_per_day={self.payments_per_day}; expected [0, 0.5] and (0, 100]."
            )


def simulate(world: World) -> pl.DataFrame:
    """Let the world run.

    Args:
        world: its size, length and seed.

    Returns:
        One row per payment, sorted by event_timestamp: PAYLOAD_COLUMNS, is_fraud (Boolean),
        label_timestamp (when the chargeback became known, UTC; null for genuine) and fraud_type
        (one of FRAUD_TYPES; null for genuine). Events lie in [start, start + days); a label may
        come after the world's end.

    Examples:
        >>> frame = simulate(World(customers=100, terminals=50, days=10))
        >>> frame.columns[:5]
        ['transaction_id', 'event_timestamp', 'card_id', 'terminal_id', 'amount_minor']
        >>> frame["transaction_id"][0], frame["is_fraud"].dtype
        ('t0000000000', Boolean)
    """
    # one stream per part: a change in one part leaves the chance of the others alone
    people, habits, crimes, bank = (np.random.default_rng([world.seed, part]) for part in range(4))
    population = populate(people, world.customers, world.terminals, world.payments_per_day)
    payments = commit_frauds(
        crimes,
        _genuine(habits, world, population),
        population,
        rate=world.fraud_rate,
        horizon_us=world.days * DAY_US,
    )
    payments = payments.take(np.argsort(payments.event_us, kind="stable"))
    devices = max(2 * world.customers, int(payments.device.max(initial=NONE)) + 1)
    frame = to_frame(
        payments,
        population.terminals,
        start_us=microseconds(world.start),
        device_numbers=bank.permutation(devices),
    )
    return _with_labels(frame, world.chargeback.draw_us(bank, payments.size))


def _with_labels(frame: pl.DataFrame, delay_us: Ints) -> pl.DataFrame:
    is_fraud = pl.col("fraud_type").is_not_null()
    known = (pl.col("event_timestamp").cast(pl.Int64) + pl.Series(delay_us)).cast(UTC_MICROSECONDS)
    return frame.with_columns(
        is_fraud=is_fraud, label_timestamp=pl.when(is_fraud).then(known)
    ).select(*LABELLED_PAYLOAD)


def _genuine(rng: np.random.Generator, world: World, population: Population) -> Payments:
    """What the customers do, grouped by customer and day."""
    card, day = _when_days(rng, world, population)
    on_web = rng.random(card.size) < population.web_share[card]
    terminal = _where(rng, world, population, card, day)
    web_terminal = population.favourite_web_shops.choose(rng, card)
    terminal = np.where(on_web, web_terminal, terminal)
    amount = _amounts(rng, population, card, terminal)
    method = _methods(rng, population, card, terminal, amount)
    device = 2 * card + ((method == ONLINE) & (rng.random(card.size) < 0.35))
    event_us = day * DAY_US + _time_of_day_us(rng, population.hour_shift[card])
    coarse = rng.random(population.terminals.popularity.size) < COARSE_CLOCK_SHARE
    event_us -= np.where(coarse[terminal], event_us % 1_000_000, 0)
    return Payments(
        event_us=event_us,
        card=card,
        terminal=terminal,
        amount_minor=amount,
        method=method,
        device=np.where(uses_device(method), device, NONE),
        fraud=np.full(card.size, NONE),
    )


def _when_days(rng: np.random.Generator, world: World, population: Population) -> tuple[Ints, Ints]:
    """Card and day of each payment: own rate x weekday x busy or quiet day, then Poisson."""
    weekday = (world.start.weekday() + np.arange(world.days)) % 7
    mood = rng.gamma(DAY_SHAPE, 1 / DAY_SHAPE, (world.customers, world.days))
    counts = rng.poisson(population.daily_rate[:, None] * WEEK[weekday] * mood)
    card, day = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), world.days)
    return card, day


def _time_of_day_us(rng: np.random.Generator, hour_shift: Floats) -> Ints:
    """Microseconds since midnight, in [0, one day)."""
    part = rng.choice(len(HOURS), hour_shift.size, p=HOURS[:, 2])
    hour = HOURS[part, 0] + HOURS[part, 1] * rng.normal(size=part.size) + hour_shift
    since_midnight: Ints = np.rint(hour * HOUR_US).astype(np.int64) % DAY_US
    return since_midnight


def _where(
    rng: np.random.Generator, world: World, population: Population, card: Ints, day: Ints
) -> Ints:
    """A favourite shop; while travelling or strolling, any shop by its popularity."""
    begin = rng.integers(-5, max(world.days, 90), population.size)[card]
    length = rng.integers(2, 8, population.size)[card]
    away = ((day >= begin) & (day < begin + length)) | (rng.random(card.size) < STROLL_SHARE)
    terminal = population.favourite_shops.choose(rng, card)
    shops = population.terminals.shops
    popularity = np.cumsum(population.terminals.popularity[:shops])
    anywhere = np.searchsorted(popularity, rng.random(card.size) * popularity[-1], side="right")
    return np.where(away, np.minimum(anywhere, shops - 1), terminal)


def _amounts(rng: np.random.Generator, population: Population, card: Ints, terminal: Ints) -> Ints:
    """Own mean x the place's basket x log-normal chance; now and then a splurge. Minor units."""
    chance = np.exp(rng.normal(-(AMOUNT_SIGMA**2) / 2, AMOUNT_SIGMA, card.size))
    splurge = np.where(rng.random(card.size) < SPLURGE_SHARE, SPLURGE_FACTOR, 1.0)
    basket = population.terminals.basket[terminal]
    return to_minor(population.mean_amount[card] * basket * chance * splurge)


def _methods(
    rng: np.random.Generator, population: Population, card: Ints, terminal: Ints, amount: Ints
) -> Ints:
    """Online at web shops; else wallet by habit, contactless for small amounts, chip."""
    tap = np.where(amount < CONTACTLESS_LIMIT_MINOR, 0.8, 0.15)
    plastic = np.where(rng.random(card.size) < tap, CONTACTLESS, CHIP)
    phone = population.has_wallet[card] & (rng.random(card.size) < 0.6)
    in_shop = np.where(phone, WALLET, plastic)
    return np.where(population.terminals.is_web(terminal), ONLINE, in_shop)
