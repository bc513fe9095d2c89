"""What criminals add to the payments or do to them, and when the bank learns of it.

Five kinds, each with the trace it leaves: a stolen card (a burst), a compromised terminal (a
place), a card test (tiny amounts, then a big one), an account takeover (a fortnight), one amount
out of scale.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fraud_platform.simulation.payments import (
    CHIP,
    CONTACTLESS,
    FRAUD_TYPES,
    NONE,
    ONLINE,
    WALLET,
    Payments,
    concatenate,
    to_minor,
)
from fraud_platform.simulation.population import Floats, Ints, Population

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
# of all fraudulent payments, in the order of FRAUD_TYPES
SHARES = (0.28, 0.32, 0.14, 0.18, 0.08)
STOLEN, TERMINAL, TESTING, TAKEOVER, OUTLIER = range(5)


@dataclass(frozen=True, kw_only=True)
class ChargebackDelay:
    """How long after a fraud its chargeback arrives: log-normal, cut at a longest delay."""

    median_days: float = 2.5
    """Half of the frauds are known after this many days."""
    sigma: float = 0.6
    """Standard deviation of the logarithm, unitless."""
    max_days: float = 30.0
    """No chargeback arrives later than this, days."""

    def draw_us(self, rng: np.random.Generator, n: int) -> Ints:
        """Draw n delays in microseconds, each > 0.

        Examples:
            >>> delays = ChargebackDelay().draw_us(np.random.default_rng(7), 10_001)
            >>> round(float(np.median(delays)) / 86_400_000_000, 1)
            2.5
        """
        days = self.median_days * np.exp(rng.normal(0.0, self.sigma, n))
        delays: Ints = np.rint(np.minimum(days, self.max_days) * DAY_US).astype(np.int64)
        return np.maximum(delays, 1)


def commit_frauds(
    rng: np.random.Generator,
    genuine: Payments,
    population: Population,
    *,
    rate: float,
    horizon_us: int,
) -> Payments:
    """The genuine payments with frauds among them, in no particular order.

    Compromised terminals turn payments of theirs into frauds; all other kinds add payments. Of
    each kind at least one is tried while `rate` is above 0, so a tiny world has more than asked.

    Args:
        rng: where all chance comes from.
        genuine: what the customers did.
        population: their habits, which the criminals exceed.
        rate: fraudulent payments as a share of all, in [0, 1).
        horizon_us: the world's length, microseconds; no payment happens at it or later.
    """
    if rate <= 0 or genuine.size == 0:
        return genuine
    budget = rate * genuine.size
    scene = _Scene(rng, population, horizon_us)
    added = concatenate(
        [
            scene.stolen_cards(budget * SHARES[STOLEN]),
            scene.card_tests(budget * SHARES[TESTING]),
            scene.account_takeovers(budget * SHARES[TAKEOVER]),
            scene.amount_outliers(budget * SHARES[OUTLIER]),
        ]
    )
    inside = added.take(added.event_us < horizon_us)
    turned = _compromise_terminals(rng, genuine, budget * SHARES[TERMINAL], horizon_us)
    return concatenate([turned, inside])


def _compromise_terminals(
    rng: np.random.Generator, genuine: Payments, budget: float, horizon_us: int
) -> Payments:
    """For three to five weeks most payments at a terminal are made with stolen data.

    Every terminal draws a period; then terminals fall, in random order, until the budget is spent.
    One that alone would take a tenth of it is spared: a single busy shop is no pattern to learn.
    """
    n = int(genuine.terminal.max()) + 1
    length = rng.uniform(21 * DAY_US, 35 * DAY_US, n)
    begin = rng.uniform(-length / 2, horizon_us)
    since = genuine.event_us - begin[genuine.terminal]
    hit = (since >= 0) & (since < length[genuine.terminal]) & (rng.random(genuine.size) < 0.85)
    takes = np.bincount(genuine.terminal[hit], minlength=n)
    order = rng.permutation(n)
    limit = max(budget / 10, takes[takes > 0].min(initial=genuine.size))
    order = order[(takes[order] > 0) & (takes[order] <= limit)]
    spent_before = np.cumsum(takes[order]) - takes[order]
    fallen = np.zeros(n, dtype=bool)
    fallen[order[spent_before < budget]] = True
    fraud = np.where(hit & fallen[genuine.terminal], TERMINAL, genuine.fraud)
    return replace(genuine, fraud=fraud)


@dataclass(frozen=True)
class _Scene:
    """What the kinds of fraud that add payments have in common."""

    rng: np.random.Generator
    population: Population
    horizon_us: int

    def stolen_cards(self, budget: float) -> Payments:
        """A burst within hours: high amounts at terminals the card does not know."""
        rng = self.rng
        sizes = 4 + rng.poisson(5.0, self._episodes(budget, mean_size=9.0))
        episode, card, begin = self._begin(sizes)
        hours = rng.uniform(0.5, 4.0, sizes.size)[episode] * rng.random(episode.size)
        terminal = rng.integers(0, self.population.terminals.popularity.size, episode.size)
        factor = np.exp(rng.normal(np.log(2.6), 0.6, episode.size))
        method = np.where(rng.random(episode.size) < 0.5, CHIP, CONTACTLESS)
        return self._payments(
            STOLEN, begin + hours * HOUR_US, card, terminal, factor, (method, episode)
        )

    def card_tests(self, budget: float) -> Payments:
        """Tiny amounts over the web within minutes, then, within the hour, a big one."""
        rng = self.rng
        sizes = 5 + rng.poisson(5.0, self._episodes(budget, mean_size=10.0))
        episode, card, begin = self._begin(sizes)
        last = np.cumsum(sizes) - 1
        minutes = rng.uniform(3.0, 15.0, sizes.size)[episode] * rng.random(episode.size)
        minutes[last] = rng.uniform(16.0, 60.0, sizes.size)
        terminal = self._web_shops(sizes.size)[episode]
        factor = rng.uniform(50.0, 300.0, episode.size) / self.population.mean_amount[card]
        factor[last] = rng.uniform(3.0, 9.0, sizes.size)
        method = np.full(episode.size, ONLINE)
        return self._payments(
            TESTING, begin + minutes * MINUTE_US, card, terminal, factor, (method, episode)
        )

    def account_takeovers(self, budget: float) -> Payments:
        """A fortnight of larger payments over the web from a device the card never used."""
        rng = self.rng
        sizes = 4 + rng.poisson(8.0, self._episodes(budget, mean_size=12.0))
        episode, card, begin = self._begin(sizes)
        days = rng.uniform(8.0, 16.0, sizes.size)[episode] * rng.random(episode.size)
        factor = np.exp(rng.normal(np.log(5.0), 0.4, episode.size))
        method = np.full(episode.size, ONLINE)
        return self._payments(
            TAKEOVER,
            begin + days * DAY_US,
            card,
            self._web_shops(episode.size),
            factor,
            (method, episode),
        )

    def amount_outliers(self, budget: float) -> Payments:
        """One payment far above what the card spends, at a place it knows."""
        rng = self.rng
        sizes = np.ones(self._episodes(budget, mean_size=1.0), dtype=np.int64)
        episode, card, begin = self._begin(sizes)
        factor = rng.uniform(8.0, 25.0, episode.size)
        terminal = self.population.favourite_shops.choose(rng, card)
        method = np.full(episode.size, CHIP)
        return self._payments(OUTLIER, begin, card, terminal, factor, (method, episode))

    @staticmethod
    def _episodes(budget: float, mean_size: float) -> int:
        return max(1, round(budget / mean_size))

    def _begin(self, sizes: Ints) -> tuple[Ints, Ints, Floats]:
        """Per payment: its episode, the victim's card and the episode's begin, microseconds."""
        episode = np.repeat(np.arange(sizes.size), sizes)
        card = self.rng.integers(0, self.population.size, sizes.size)
        begin = self.rng.uniform(0, self.horizon_us, sizes.size)
        return episode, card[episode], begin[episode]

    def _web_shops(self, n: int) -> Ints:
        terminals = self.population.terminals
        return self.rng.integers(terminals.shops, terminals.popularity.size, n)

    def _payments(
        self,
        kind: int,
        event_us: Floats,
        card: Ints,
        terminal: Ints,
        factor: Floats,
        how: tuple[Ints, Ints],
    ) -> Payments:
        """Amounts relative to the card's own mean; over the web, one new device per episode."""
        in_shop, episode = how
        method = np.where(self.population.terminals.is_web(terminal), ONLINE, in_shop)
        # 2 devices per customer exist; each kind of fraud numbers its own above them
        device = 2 * self.population.size + len(FRAUD_TYPES) * episode + kind
        return Payments(
            event_us=event_us.astype(np.int64),
            card=card,
            terminal=terminal,
            amount_minor=to_minor(self.population.mean_amount[card] * factor),
            method=method,
            device=np.where(uses_device(method), device, NONE),
            fraud=np.full(card.size, kind),
        )


def uses_device(method: Ints) -> NDArray[np.bool_]:
    """True for the methods that name a device: online and wallet."""
    return np.isin(method, (ONLINE, WALLET))
