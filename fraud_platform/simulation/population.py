"""Who pays where: customers with habits, terminals with places and popularity.

Nothing here knows about time or fraud. All draws come from the generator passed in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# country (ISO 3166 alpha-2), latitude, longitude (degrees), share of people and shops
CITIES = (
    ("DE", 52.52, 13.40, 0.16),
    ("DE", 48.14, 11.58, 0.12),
    ("FR", 48.86, 2.35, 0.18),
    ("FR", 45.76, 4.84, 0.08),
    ("NL", 52.37, 4.90, 0.10),
    ("BE", 50.85, 4.35, 0.09),
    ("ES", 40.42, -3.70, 0.12),
    ("IT", 45.46, 9.19, 0.10),
    ("AT", 48.21, 16.37, 0.05),
)
# ISO 18245 code, share of the shops, what a basket costs there relative to the card's mean
SHOP_CATEGORIES = (
    ("5411", 0.26, 0.9),  # groceries
    ("5812", 0.22, 0.8),  # restaurants
    ("5541", 0.10, 1.3),  # fuel
    ("5912", 0.10, 0.6),  # pharmacies
    ("4111", 0.12, 0.5),  # local transport
    ("5311", 0.12, 1.4),  # department stores
    ("5732", 0.05, 2.2),  # electronics
    ("7011", 0.03, 2.5),  # hotels
)
WEB_CATEGORIES = (
    ("5815", 0.35, 0.6),  # digital goods
    ("5651", 0.35, 1.3),  # clothing
    ("5732", 0.20, 2.0),  # electronics
    ("4722", 0.10, 2.5),  # travel agencies
)
WEB_SHARE = 0.2  # of the terminals
POPULARITY_EXPONENT = 0.8  # popularity = rank ** -exponent
CITY_RADIUS_DEGREES = 0.12
NEARNESS_KM = 6.0  # a shop this much farther away is e times less likely
KM_PER_DEGREE = 111.0
FAVOURITE_SHOPS = 20
FAVOURITE_WEB_SHOPS = 6


@dataclass(frozen=True)
class Terminals:
    """Arrays of shape (terminals,); shops first, then web shops."""

    city: Ints
    country: NDArray[np.str_]
    latitude: Floats
    longitude: Floats
    category: NDArray[np.str_]
    basket: Floats
    """Typical amount relative to the payer's own mean, unitless."""
    popularity: Floats
    shops: int
    """Terminals [0, shops) are shops, the rest take payments over the web only."""

    def is_web(self, terminal: Ints) -> NDArray[np.bool_]:
        """True where the terminal has no till that a card could be held to."""
        return terminal >= self.shops


@dataclass(frozen=True)
class Favourites:
    """The terminals each customer returns to, as one sorted array of cumulative odds.

    Customer c owns the k entries c * k .. c * k + k - 1; `edges` there climbs from c to c + 1, so
    that one binary search of c + u answers for a million payments at once.
    """

    edges: Floats
    terminal: Ints
    each: int
    """k, the number of favourites of one customer."""

    def choose(self, rng: np.random.Generator, customer: Ints) -> Ints:
        """One terminal for each entry of `customer`, by that customer's odds."""
        at = np.searchsorted(self.edges, customer + rng.random(customer.size), side="right")
        first = customer * self.each
        return self.terminal[np.clip(at, first, first + self.each - 1)]


@dataclass(frozen=True)
class Population:
    """Customers as arrays of shape (customers,), and the terminals they know."""

    daily_rate: Floats
    """Payments per day, gamma distributed around the world's mean."""
    mean_amount: Floats
    """The card's own typical amount, minor units; log-normal over customers."""
    web_share: Floats
    """Share of the payments made over the web, in (0, 1)."""
    hour_shift: Floats
    """How much later than others this customer lives, hours."""
    has_wallet: NDArray[np.bool_]
    favourite_shops: Favourites
    favourite_web_shops: Favourites
    terminals: Terminals

    @property
    def size(self) -> int:
        """Number of customers; each has one card."""
        return self.daily_rate.size


def populate(
    rng: np.random.Generator, customers: int, terminals: int, payments_per_day: float
) -> Population:
    """Draw the people and the shops of one world.

    Args:
        rng: where all chance comes from.
        customers: how many; each owns one card.
        terminals: how many, at least 2; a fifth of them are web shops.
        payments_per_day: mean of the customers' own daily rates.

    Examples:
        >>> population = populate(np.random.default_rng(7), 100, 50, 2.0)
        >>> population.size, population.terminals.shops
        (100, 40)
    """
    places = _terminals(rng, terminals)
    home, latitude, longitude = _places(rng, customers)
    return Population(
        daily_rate=rng.gamma(2.0, payments_per_day / 2.0, customers),
        mean_amount=np.exp(rng.normal(np.log(3200.0), 0.6, customers)),
        web_share=rng.beta(2.0, 8.0, customers),
        hour_shift=rng.normal(0.0, 1.0, customers),
        has_wallet=rng.random(customers) < 0.35,
        favourite_shops=_favourite_shops(rng, places, home, latitude, longitude),
        favourite_web_shops=_favourite_web_shops(rng, places, customers),
        terminals=places,
    )


def _places(rng: np.random.Generator, n: int) -> tuple[Ints, Floats, Floats]:
    """City, latitude and longitude of n people or shops."""
    shares = np.array([city[3] for city in CITIES])
    city = rng.choice(len(CITIES), n, p=shares / shares.sum())
    latitude = np.array([c[1] for c in CITIES])[city] + rng.normal(0, CITY_RADIUS_DEGREES, n)
    longitude = np.array([c[2] for c in CITIES])[city] + rng.normal(0, CITY_RADIUS_DEGREES, n)
    return city.astype(np.int64), np.round(latitude, 4), np.round(longitude, 4)


def _terminals(rng: np.random.Generator, n: int) -> Terminals:
    web_shops = max(1, round(n * WEB_SHARE))
    shops = n - web_shops
    city, latitude, longitude = _places(rng, n)
    popularity: Floats = np.power(rng.permutation(n) + 1.0, -POPULARITY_EXPONENT)
    kinds = [
        (table, rng.choice(len(table), size, p=[kind[1] for kind in table]))
        for table, size in ((SHOP_CATEGORIES, shops), (WEB_CATEGORIES, web_shops))
    ]
    return Terminals(
        city=city,
        country=np.array([c[0] for c in CITIES])[city],
        latitude=latitude,
        longitude=longitude,
        category=np.concatenate([np.array([k[0] for k in table])[of] for table, of in kinds]),
        basket=np.concatenate([np.array([k[2] for k in table])[of] for table, of in kinds]),
        popularity=popularity,
        shops=shops,
    )


def _favourite_shops(
    rng: np.random.Generator, places: Terminals, home: Ints, latitude: Floats, longitude: Floats
) -> Favourites:
    """Nearness times popularity, among the shops of the home city (all, where it has too few)."""
    k = min(FAVOURITE_SHOPS, places.shops)
    terminal = np.empty((home.size, k), dtype=np.int64)
    log_odds = np.empty((home.size, k))
    for city in range(len(CITIES)):
        people = np.flatnonzero(home == city)
        near = np.flatnonzero(places.city[: places.shops] == city)
        shops = near if near.size >= k else np.arange(places.shops)
        north = latitude[people, None] - places.latitude[shops]
        east = (longitude[people, None] - places.longitude[shops]) * np.cos(np.radians(48.0))
        distance_km = KM_PER_DEGREE * np.hypot(north, east)
        odds = np.log(places.popularity[shops]) - distance_km / NEARNESS_KM
        terminal[people], log_odds[people] = _draw_some(rng, odds, shops, k)
    return _favourites(rng, terminal, log_odds)


def _favourite_web_shops(rng: np.random.Generator, places: Terminals, customers: int) -> Favourites:
    web_shops = np.arange(places.shops, places.popularity.size)
    odds = np.tile(np.log(places.popularity[web_shops]), (customers, 1))
    k = min(FAVOURITE_WEB_SHOPS, web_shops.size)
    return _favourites(rng, *_draw_some(rng, odds, web_shops, k))


def _draw_some(
    rng: np.random.Generator, log_odds: Floats, terminals: Ints, k: int
) -> tuple[Ints, Floats]:
    """Pick k terminals a row without replacement: the k largest of log-odds plus Gumbel noise."""
    keys = log_odds + rng.gumbel(size=log_odds.shape)
    best = np.argpartition(-keys, k - 1, axis=1)[:, :k]
    return terminals[best], np.take_along_axis(log_odds, best, axis=1)


def _favourites(rng: np.random.Generator, terminal: Ints, log_odds: Floats) -> Favourites:
    """Soften the odds (0.4) and add personal taste, so that not everybody has one shop only."""
    taste = 0.4 * log_odds + rng.normal(0.0, 0.8, log_odds.shape)
    odds = np.exp(taste - taste.max(axis=1, keepdims=True))
    edges = np.cumsum(odds, axis=1) / odds.sum(axis=1, keepdims=True)
    edges[:, -1] = 1.0
    edges += np.arange(edges.shape[0])[:, None]
    return Favourites(edges=edges.ravel(), terminal=terminal.ravel(), each=edges.shape[1])
