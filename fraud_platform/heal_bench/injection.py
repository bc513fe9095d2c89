"""What each fault does to a run; which scenario is made of which faults is `faults`.

Each function takes a draft and gives the draft with one more thing gone wrong, so that faults
compose. What customers and criminals do is the `world`; what only the sender, the store or a
release does to it is written down beside, so that the oracle can know better.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.decision import Thresholds
from fraud_platform.events import microseconds
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES
from fraud_platform.heal.actions import Action
from fraud_platform.heal_bench.stage import Draft, Takeover
from fraud_platform.heal_bench.world import CHECK_HOURS, Floats, Ints
from fraud_platform.simulation.scenarios import Scenario, inject

Fault = Callable[[Draft], Draft]

_SALE_HOURS = 6.0
_AGAIN_US = 3_000_000
_SKEW = 0.62
_SKEWED = (
    "card_amount_over_mean_30d",
    "card_amount_over_median_90d",
    "card_amount_z_score_90d",
    "terminal_amount_over_mean_30d",
)
_MENDS_MODEL = frozenset({Action.RELOAD_MODEL, Action.ROLL_BACK})


# What customers and criminals do


def disturbed(scenario: Scenario, strength: float, part: int) -> Fault:
    """A scenario of the simulation (`simulation.scenarios`), at this strength times severity."""

    def happen(draft: Draft) -> Draft:
        after = inject(
            draft.world,
            scenario,
            since=draft.onset,
            seed=draft.seed + part,
            strength=strength * draft.severity,
        )
        return replace(draft, world=draft.blended(after, part))

    return happen


def jitter(draft: Draft) -> Draft:
    """People pay up to two hours earlier or later than they used to."""
    later = draft.world.filter(pl.col("event_timestamp") >= draft.onset)
    hours = draft.rng(21).normal(0.0, 1.0 * draft.severity, later.height).clip(-2.0, 2.0)
    moved = pl.col("event_timestamp") + pl.Series(hours * 3.6e9).cast(pl.Duration("us"))
    before = draft.world.filter(pl.col("event_timestamp") < draft.onset)
    # Nobody pays before the onset because of a change that begins with it.
    told = later.with_columns(
        pl.max_horizontal(moved, pl.lit(draft.onset)).alias("event_timestamp")
    )
    world = pl.concat([before, told.cast(before.schema)])
    return replace(draft, world=world.sort("event_timestamp", maintain_order=True))


def season(draft: Draft) -> Draft:
    """More of the same: baskets a little larger, a third more payments."""
    dearer = disturbed(Scenario.AMOUNT_INFLATION, 0.06, 22)(draft)
    return _more(dearer, share=0.35 * draft.severity, hours=None, part=23, web=0.0)


def sale(draft: Draft) -> Draft:
    """For some hours many times as many payments, most of them at web shops."""
    return _more(draft, share=3.0 + 5.0 * draft.severity, hours=_SALE_HOURS, part=24, web=0.6)


def card_testing(draft: Draft) -> Draft:
    """Thousands of cards are tried with tiny amounts at a few web shops."""
    return _burst(draft, share=0.06, shops=3, cards=0.2, minor=(50, 400), is_fraud=True)


def credential_stuffing(draft: Draft) -> Draft:
    """Many accounts are opened with stolen passwords, and bought from, at a few shops."""
    return _burst(draft, share=0.05, shops=6, cards=0.1, minor=(4_000, 30_000), is_fraud=True)


def scalping(draft: Draft) -> Draft:
    """Bots buy up a concert: few cards, one shop, very many payments, all of them genuine."""
    return _burst(draft, share=0.12, shops=1, cards=0.002, minor=(6_000, 12_000), is_fraud=False)


# What the sender breaks


def cents(share: float) -> Fault:
    """A share of the payments comes in hundredths."""

    def happen(draft: Draft) -> Draft:
        def breaking(d: Draft, sent: pl.DataFrame) -> pl.DataFrame:
            hit = d.hit(sent["event_timestamp"], 31) & (d.rng(32).random(sent.height) < share)
            times = pl.Series(np.where(hit, 100, 1))
            return sent.with_columns((pl.col("amount_minor") * times).alias("amount_minor"))

        return _broken(draft, breaking)

    return happen


def null_flood(draft: Draft) -> Draft:
    """The feed forgets what it knew of the context."""

    def breaking(d: Draft, sent: pl.DataFrame) -> pl.DataFrame:
        names = ("merchant_category", "country", "device_id", "latitude", "longitude")
        lost = 0.3 + 0.7 * d.severity
        return sent.with_columns(
            pl.when(pl.Series(~_some(d, sent, lost, 33 + place))).then(name).alias(name)
            for place, name in enumerate(names)
        )

    return _broken(draft, breaking)


def recode(draft: Draft) -> Draft:
    """Countries and manners of paying are spelled anew."""

    def breaking(d: Draft, sent: pl.DataFrame) -> pl.DataFrame:
        hit = pl.Series(_some(d, sent, 0.3 + 0.7 * d.severity, 41))
        anew = {c: pl.lit("ISO-") + pl.col(c) for c in ("country",)}
        anew["payment_method"] = pl.col("payment_method").str.to_uppercase()
        return sent.with_columns(
            pl.when(hit).then(text).otherwise(name).alias(name) for name, text in anew.items()
        )

    return _broken(draft, breaking)


def time_zone(draft: Draft) -> Draft:
    """The sender's clock is set to another zone."""
    hours = 2 + round(9 * draft.severity)

    def breaking(d: Draft, sent: pl.DataFrame) -> pl.DataFrame:
        hit = pl.Series(d.hit(sent["event_timestamp"], 42))
        moved = pl.col("event_timestamp") + timedelta(hours=hours)
        return sent.with_columns(
            pl.when(hit).then(moved).otherwise("event_timestamp").alias("event_timestamp")
        )

    return _broken(draft, breaking)


def twice(draft: Draft) -> Draft:
    """A second feed sends payments again, seconds later and under new ids."""

    def breaking(d: Draft, sent: pl.DataFrame) -> pl.DataFrame:
        hit = pl.Series(_some(d, sent, 0.3 + 0.7 * d.severity, 43))
        again = sent.filter(hit).with_columns(
            transaction_id="y" + pl.col("transaction_id"),
            event_timestamp=pl.col("event_timestamp") + timedelta(microseconds=_AGAIN_US),
            received_timestamp=pl.col("received_timestamp") + timedelta(microseconds=_AGAIN_US),
            counts=pl.lit(value=False),
        )
        return pl.concat([sent, again]).sort("received_timestamp", maintain_order=True)

    return _broken(draft, breaking)


# What the platform breaks


def stale_features(draft: Draft) -> Draft:
    """The feature store serves what it knew a day ago."""
    hours = 4.0 + 20.0 * draft.severity

    def alter(d: Draft, run: pl.DataFrame, served: NDArray[np.float32]) -> NDArray[np.float32]:
        found = served.copy()
        hit = d.hit(run["event_timestamp"], 51)
        for entity in ("card", "terminal"):
            names = [f.name for f in FEATURES if f.entity == entity]
            columns = np.array([FEATURE_NAMES.index(name) for name in names])
            old = _row_before(run, f"{entity}_id", hours)
            known, fresh = hit & (old >= 0), hit & (old < 0)
            found[np.ix_(np.flatnonzero(known), columns)] = served[np.ix_(old[known], columns)]
            found[np.ix_(np.flatnonzero(fresh), columns)] = np.nan
        return found

    return replace(draft, alters=(*draft.alters, alter), stale_hours=hours)


def skew(draft: Draft) -> Draft:
    """The serving code computes what is compared with a card's habits by another formula."""
    factor = 1.0 - (1.0 - _SKEW) * (0.5 + 0.5 * draft.severity)

    def alter(d: Draft, run: pl.DataFrame, served: NDArray[np.float32]) -> NDArray[np.float32]:
        found, hit = served.copy(), d.hit(run["event_timestamp"], 52)
        for name in _SKEWED:
            found[hit, FEATURE_NAMES.index(name)] *= np.float32(factor)
        return found

    return replace(draft, alters=(*draft.alters, alter))


def corrupt_model(draft: Draft) -> Draft:
    """Bits of the deployed model have flipped: some leaves say anything."""
    champion, share = draft.ground.champion, 0.1 + 0.5 * draft.severity

    def distortion(scores: Floats, features: NDArray[np.float32]) -> Floats:
        leaf = np.modf(np.abs(scores) * 1e6)[0]  # as random as a leaf, and the same every time
        return np.where(leaf < share, leaf / share, scores)

    arm = replace(champion, name="corrupt", distortion=distortion)
    return replace(draft, takeover=Takeover(arm, "artifact", _MENDS_MODEL))


def wrong_version(draft: Draft) -> Draft:
    """A restart loads a version that knows no verdicts, by the champion's thresholds."""
    ground = draft.ground
    loaded = replace(ground.fallbacks["money"], thresholds=ground.champion.thresholds)
    return replace(draft, takeover=Takeover(loaded, "artifact", _MENDS_MODEL))


def loose_thresholds(draft: Draft) -> Draft:
    """Somebody edits the thresholds without an approval."""
    champion = draft.ground.champion
    lower = champion.thresholds.review / (1.5 + 2.5 * draft.severity)
    arm = replace(champion, thresholds=Thresholds(lower, lower))
    mends = frozenset({Action.RESTORE_CONFIGURATION, Action.ROLL_BACK})
    return replace(draft, takeover=Takeover(arm, "configuration", mends))


def bad_release(draft: Draft) -> Draft:
    """A release states 1.6 times the odds, or more."""
    odds = 1.6 + 1.4 * draft.severity
    return _released(draft, lambda scores, _: odds * scores / (1.0 + (odds - 1.0) * scores))


def bad_release_segment(draft: Draft) -> Draft:
    """A release is right on the whole and wrong about large payments."""
    amount = FEATURE_NAMES.index("transaction_amount")
    odds = 3.0 + 5.0 * draft.severity
    large = float(np.nanquantile(draft.ground.quiet[:, amount], 0.8))

    def distortion(scores: Floats, features: NDArray[np.float32]) -> Floats:
        worse = odds * scores / (1.0 + (odds - 1.0) * scores)
        return np.where(features[:, amount] > large, worse, scores)

    return _released(draft, distortion)


def good_release(draft: Draft) -> Draft:
    """A sound release: the champion's rows, another seed."""
    release = Takeover(
        draft.ground.release, "release", frozenset({Action.ROLL_BACK}), is_innocent=True
    )
    return replace(draft, takeover=release)


def label_outage(draft: Draft) -> Draft:
    """No verdict arrives any more."""
    return replace(draft, feed={**draft.feed, "outage": 1.0})


def label_delay(draft: Draft) -> Draft:
    """Verdicts take twice as long, or longer."""
    return replace(draft, feed={**draft.feed, "delay": 2.0 + 2.0 * draft.severity})


def label_flips(draft: Draft) -> Draft:
    """A tenth of the verdicts says the contrary."""
    return replace(draft, feed={**draft.feed, "flips": 0.1})


def slow(draft: Draft) -> Draft:
    """Answers take four to ten times as long and more, and some requests end without one."""
    return replace(draft, latency=6.0 + 14.0 * draft.severity, failing=0.02 + 0.08 * draft.severity)


def silence(draft: Draft) -> Draft:
    """The telemetry is lost: live counts and probes say nothing any more."""
    return replace(draft, is_silent=True)


def crash(draft: Draft) -> Draft:
    """The controller dies after its first act, before it has written down that it is done."""
    return replace(draft, crashes=True)


def _broken(draft: Draft, breaking: Callable[[Draft, pl.DataFrame], pl.DataFrame]) -> Draft:
    return replace(draft, broken=(*draft.broken, breaking))


def _released(draft: Draft, distortion: Callable[[Floats, NDArray[np.float32]], Floats]) -> Draft:
    arm = replace(draft.ground.champion, name="release", distortion=distortion)
    return replace(draft, takeover=Takeover(arm, "release", frozenset({Action.ROLL_BACK})))


def _some(draft: Draft, sent: pl.DataFrame, share: float, part: int) -> NDArray[np.bool_]:
    hit = draft.hit(sent["event_timestamp"], part)
    found: NDArray[np.bool_] = hit & (draft.rng(part + 500).random(sent.height) < share)
    return found


def _row_before(run: pl.DataFrame, entity: str, hours: float) -> Ints:
    """Of each payment the last row of its entity that is so much older, or -1."""
    rows = run.select(entity, "event_timestamp", row=pl.int_range(pl.len()))
    asked = rows.select(entity, at=pl.col("event_timestamp") - timedelta(hours=hours))
    asked = asked.with_columns(place=pl.int_range(pl.len())).sort("at")
    found = asked.join_asof(
        rows.sort("event_timestamp"),
        left_on="at",
        right_on="event_timestamp",
        by=entity,
        check_sortedness=False,
    )
    places: Ints = found.sort("place")["row"].fill_null(-1).to_numpy()
    return places


def _more(draft: Draft, *, share: float, hours: float | None, part: int, web: float) -> Draft:
    """Further genuine payments by customers who pay anyway, as a share of those there are."""
    rng, world = draft.rng(part), draft.world
    end = draft.onset + timedelta(hours=hours) if hours else world["event_timestamp"][-1]
    within = world.filter(
        pl.col("event_timestamp").is_between(draft.onset, end) & ~pl.col("is_fraud")
    )
    extra = within[np.sort(rng.integers(0, within.height, int(share * within.height)))]
    moved = pl.Series(rng.integers(0, 600_000_000, extra.height)).cast(pl.Duration("us"))
    shops = within.filter(pl.col("payment_method") == "online")
    at = shops[rng.integers(0, shops.height, extra.height)]
    on_web = pl.Series(rng.random(extra.height) < web)
    place = ("terminal_id", "merchant_category", "country", "payment_method", "entry_mode")
    extra = extra.with_columns(
        *(pl.when(on_web).then(at[c]).otherwise(pl.col(c)).alias(c) for c in place),
        *(pl.when(~on_web).then(pl.col(c)).alias(c) for c in ("latitude", "longitude")),
        # Nobody pays on the web without a device.
        pl.when(on_web)
        .then(pl.col("device_id").fill_null("w" + pl.col("card_id")))
        .otherwise("device_id")
        .alias("device_id"),
        (pl.col("event_timestamp") + moved).cast(world.schema["event_timestamp"]),
        transaction_id=_ids(f"s{part}", extra.height),
    )
    return replace(draft, world=_merged(world, extra))


def _burst(
    draft: Draft,
    *,
    share: float,
    shops: int,
    cards: float,
    minor: tuple[int, int],
    is_fraud: bool,
) -> Draft:
    """For a day, many payments at a few web shops.

    Args:
        draft: the run so far.
        share: of the payments of that day, at severity 1.
        shops: how many web shops.
        cards: share of the cards that pay.
        minor: smallest and largest amount.
        is_fraud: whether they are fraud.
    """
    rng, world = draft.rng(61), draft.world
    span = timedelta(hours=4 * CHECK_HOURS)
    day = world.filter(pl.col("event_timestamp").is_between(draft.onset, draft.onset + span))
    n = max(50, int(share * draft.severity * day.height))
    online = day.filter(pl.col("payment_method") == "online")
    known = online["terminal_id"].unique(maintain_order=True)
    chosen = known[rng.integers(0, len(known), shops)]
    shop = online.filter(pl.col("terminal_id").is_in(chosen.implode())).unique(
        "terminal_id", keep="first", maintain_order=True
    )
    payers = day["card_id"].unique(maintain_order=True)
    payers = payers[rng.integers(0, len(payers), max(5, int(cards * len(payers))))]
    times = _us_series(draft, np.sort(rng.uniform(0.0, span.total_seconds() * 1e6, n)))
    told = {
        "transaction_id": _ids("b", n),
        "event_timestamp": times,
        "card_id": payers[rng.integers(0, len(payers), n)],
        "amount_minor": pl.Series(rng.integers(*minor, n)),
        "device_id": "xb" + pl.Series(rng.integers(0, max(3, n // 100), n)).cast(pl.String),
        "is_fraud": pl.repeat(is_fraud, n, eager=True),
        "label_timestamp": times
        + pl.Series(rng.lognormal(0.0, 0.6, n) * 86.4e9).cast(pl.Duration("us"))
        if is_fraud
        else pl.repeat(None, n, dtype=times.dtype, eager=True),
        "fraud_type": pl.repeat("attack" if is_fraud else None, n, dtype=pl.String, eager=True),
    }
    burst = shop[rng.integers(0, shop.height, n)].with_columns(**told)
    return replace(draft, world=_merged(world, burst))


def _us_series(draft: Draft, after_us: Floats) -> pl.Series:
    begin = microseconds(draft.onset)
    dtype = draft.world.schema["event_timestamp"]
    return pl.Series(begin + after_us.astype(np.int64)).cast(dtype)


def _ids(prefix: str, n: int) -> pl.Series:
    return prefix + pl.Series(np.arange(n)).cast(pl.String).str.zfill(8)


def _merged(world: pl.DataFrame, extra: pl.DataFrame) -> pl.DataFrame:
    both = pl.concat([world, extra.select(world.columns).cast(world.schema)])
    return both.sort("event_timestamp", maintain_order=True)
