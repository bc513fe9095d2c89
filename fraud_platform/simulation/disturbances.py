"""How each scenario changes the rows it is given; `scenarios.inject` chooses the rows.

A disturbance only writes what the sender could have written: a context column that is null
throughout stays null, and the change is then seen in amounts, terminals and counts alone.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.schemas import CONTEXT_COLUMNS, UTC_MICROSECONDS
from fraud_platform.simulation.fraud import HOUR_US, ChargebackDelay
from fraud_platform.simulation.payments import LABELLED_PAYLOAD
from fraud_platform.simulation.population import Floats, Ints

NEW_FRAUD_TYPE = "new_pattern"
FOREIGN_COUNTRIES = ("AE", "BR", "MA", "TH", "US", "ZA")
MIX_SHARE, ABROAD_SHARE, NULL_SHARE, NEW_FRAUD_SHARE = 0.6, 0.6, 0.9, 0.015  # of rows, strength 1
INFLATION = 0.8  # added to every amount at strength 1, as a share of it
WEB_BASKET = 1.35  # a basket on the web against one in a shop

Picked = NDArray[np.bool_]


@dataclass(frozen=True)
class Disturbance:
    """What every scenario works with."""

    frame: pl.DataFrame
    """All rows, the undisturbed past included."""
    later: pl.DataFrame
    """The rows to disturb, in order of event time; at least one."""
    rng: np.random.Generator
    strength: float

    def pick(self, share: float) -> Picked:
        """Which later rows are hit, each with chance share * strength (at most 1)."""
        return self.rng.random(self.later.height) < share * self.strength

    def fills(self, column: str) -> bool:
        """Whether the sender ever says this."""
        return self.frame[column].null_count() < self.frame.height


def amount_inflation(d: Disturbance) -> pl.DataFrame:
    """Everything costs more."""
    return d.later.with_columns(_scaled(pl.lit(1 + INFLATION * d.strength)))


def unit_change(d: Disturbance) -> pl.DataFrame:
    """Somebody sends hundredths where whole units were agreed, or multiplies twice."""
    hit = pl.Series(d.pick(1.0))
    return d.later.with_columns(
        pl.when(hit)
        .then(pl.col("amount_minor") * 100)
        .otherwise("amount_minor")
        .alias("amount_minor")
    )


def null_flood(d: Disturbance) -> pl.DataFrame:
    """A feed forgets most of what it knows."""
    kept = {column: pl.Series(~d.pick(NULL_SHARE)) for column in CONTEXT_COLUMNS}
    return d.later.with_columns(pl.when(k).then(column).alias(column) for column, k in kept.items())


def payment_mix_shift(d: Disturbance) -> pl.DataFrame:
    """Payments leave the shops for web shops and wallets."""
    n = d.later.height
    moved = d.pick(MIX_SHARE)
    web = moved & (d.rng.random(n) < 0.65)
    shops = _web_shops(d)
    odds = (np.arange(shops.height) + 1.0) ** -0.8
    shop = shops[d.rng.choice(shops.height, n, p=odds / odds.sum())]
    factor = np.where(web, WEB_BASKET * np.exp(d.rng.normal(0.0, 0.3, n)), 1.0)
    new = {
        "terminal_id": (web, shop["terminal_id"]),
        "merchant_category": (web, shop["merchant_category"]),
        "country": (web, shop["country"]),
        "latitude": (web, pl.repeat(None, n, dtype=pl.Float64, eager=True)),
        "longitude": (web, pl.repeat(None, n, dtype=pl.Float64, eager=True)),
        "payment_method": (moved, pl.Series(np.where(web, "online", "wallet"))),
        "entry_mode": (moved, pl.Series(np.where(web, "not_present", "present"))),
        "device_id": (moved, _devices(d)),
    }
    return _replaced(d, new).with_columns(_scaled(pl.Series(factor)))


def _web_shops(d: Disturbance) -> pl.DataFrame:
    """One row per web shop; without context, a twentieth of the terminals stands for them."""
    terminals = _terminals(d.frame)
    online = d.frame.filter(pl.col("payment_method") == "online")["terminal_id"].unique()
    shops = terminals.filter(pl.col("terminal_id").is_in(online.implode()))
    if shops.is_empty():
        some = d.rng.permutation(terminals.height)[: max(1, terminals.height // 20)]
        shops = terminals[some]
    return shops


def _devices(d: Disturbance) -> pl.Series:
    """Each card's first known device; a card without one gets one that is named after it."""
    known = (
        d.frame.filter(pl.col("device_id").is_not_null())
        .unique("card_id", keep="first", maintain_order=True)
        .select("card_id", device="device_id")
    )
    joined = d.later.select("card_id").join(known, on="card_id", how="left", maintain_order="left")
    return joined.select(pl.col("device").fill_null("x" + pl.col("card_id"))).to_series()


def geography_shift(d: Disturbance) -> pl.DataFrame:
    """Cards go abroad: most to a few busy terminals, none of them ever used before."""
    hit = d.pick(ABROAD_SHARE)
    used = d.frame["country"].unique().to_list()
    countries = [c for c in FOREIGN_COUNTRIES if c not in used] or list(FOREIGN_COUNTRIES)
    terminals = _terminals(d.frame)
    abroad = max(len(countries), terminals.height // 5)
    like = terminals[d.rng.integers(0, terminals.height, abroad)]  # what is sold there
    odds = (np.arange(abroad) + 1.0) ** -0.5
    at = d.rng.choice(abroad, d.later.height, p=odds / odds.sum())
    latitude, longitude = d.rng.uniform(-30, 30, abroad), d.rng.uniform(-100, 100, abroad)
    web = pl.Series(d.later["entry_mode"] == "not_present").fill_null(value=False)
    new = {
        "terminal_id": (hit, _numbered("xm", 5, at)),
        "merchant_category": (hit, like["merchant_category"].gather(at)),
        "country": (hit, pl.Series(countries).gather(at % len(countries))),
        "latitude": (hit & ~web.to_numpy(), pl.Series(np.round(latitude, 4)[at])),
        "longitude": (hit & ~web.to_numpy(), pl.Series(np.round(longitude, 4)[at])),
    }
    return _replaced(d, new)


def new_fraud_pattern(d: Disturbance) -> pl.DataFrame:
    """Small purchases in several places within hours, each alone like any other.

    An episode hangs on one later payment (its card, time of day and currency). Each of its frauds
    borrows place and manner of paying from a payment at some other terminal.
    """
    wanted = round(NEW_FRAUD_SHARE * d.strength * d.later.height)
    sizes = 4 + d.rng.integers(0, 4, wanted // 4 + 1)
    episode = np.repeat(np.arange(sizes.size), sizes)[:wanted]
    anchor = d.later[d.rng.integers(0, d.later.height, sizes.size)[episode]]
    event_us = _hours_after(d, anchor["event_timestamp"].cast(pl.Int64).to_numpy(), episode)
    label_us = event_us + ChargebackDelay().draw_us(d.rng, wanted)
    device = _numbered("xd", 6, episode)
    factor = np.exp(d.rng.normal(np.log(0.6), 0.35, wanted))
    frauds = _some_terminals(d, episode).with_columns(
        transaction_id=_unused_ids(d.frame, wanted),
        event_timestamp=pl.Series(event_us).cast(UTC_MICROSECONDS),
        card_id=anchor["card_id"],
        currency=anchor["currency"],
        amount_minor=_own_amounts(d.frame, anchor["card_id"], factor),
        device_id=pl.when(pl.col("device_id").is_not_null()).then(device),
        is_fraud=pl.lit(value=True),
        label_timestamp=pl.Series(label_us).cast(UTC_MICROSECONDS),
        fraud_type=pl.lit(NEW_FRAUD_TYPE),
    )
    return pl.concat([d.later, frauds.select(LABELLED_PAYLOAD.keys())], how="diagonal")


def _hours_after(d: Disturbance, anchor_us: Ints, episode: Ints) -> Ints:
    """Event times up to two to six hours after the anchors, none after the frame's last event."""
    span_us = d.rng.uniform(2.0, 6.0, episode.size)[episode] * HOUR_US
    first, last = d.later["event_timestamp"].cast(pl.Int64).to_numpy()[[0, -1]]
    span_us = np.minimum(span_us, last - first)
    begin_us = np.minimum(anchor_us, last - span_us)
    event_us: Ints = (begin_us + span_us * d.rng.random(episode.size)).astype(np.int64)
    return event_us


def _some_terminals(d: Disturbance, episode: Ints) -> pl.DataFrame:
    """One payment to borrow from per row; no terminal twice in an episode, as far as they go."""
    terminals = _terminals(d.later)
    shuffled = d.rng.permutation(terminals.height)
    step = d.rng.integers(0, terminals.height, episode.size)[episode] + np.arange(episode.size)
    rows: Ints = shuffled[step % terminals.height]
    return terminals[rows]


def _own_amounts(frame: pl.DataFrame, card: pl.Series, factor: Floats) -> pl.Series:
    """Each card's mean amount times a factor, at least 1 minor unit."""
    means = frame.group_by("card_id").agg(
        # whole numbers are summed: no order of threads can change the mean
        mean=pl.col("amount_minor").sum() / pl.len()
    )
    joined = pl.DataFrame({"card_id": card, "factor": factor}).join(
        means, on="card_id", how="left", maintain_order="left"
    )
    amount = (pl.col("mean") * pl.col("factor")).round().clip(1).cast(pl.Int64)
    return joined.select(amount).to_series()


def _unused_ids(frame: pl.DataFrame, n: int) -> pl.Series:
    """Ids of an "x" and ten digits, counting on from the highest that the frame has."""
    highest = frame["transaction_id"].str.extract(r"^x(\d{10})$").cast(pl.Int64).max()
    first = highest + 1 if isinstance(highest, int) else 0
    return _numbered("x", 10, np.arange(first, first + n))


def _numbered(prefix: str, width: int, numbers: Ints) -> pl.Series:
    return prefix + pl.Series(numbers).cast(pl.String).str.zfill(width)


def _terminals(frame: pl.DataFrame) -> pl.DataFrame:
    """The first payment at each terminal, which tells its place and trade."""
    return frame.unique("terminal_id", keep="first", maintain_order=True)


def _scaled(factor: pl.Expr | pl.Series) -> pl.Expr:
    return (pl.col("amount_minor") * factor).round().cast(pl.Int64).alias("amount_minor")


def _replaced(d: Disturbance, new: dict[str, tuple[Picked, pl.Series]]) -> pl.DataFrame:
    """New values where picked, in the columns that the sender fills."""
    return d.later.with_columns(
        pl.when(pl.Series(picked)).then(values).otherwise(pl.col(column)).alias(column)
        for column, (picked, values) in new.items()
        if d.fills(column)
    )
