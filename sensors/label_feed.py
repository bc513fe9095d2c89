"""A feed of verdicts that stops or is back -> one line in the alert file."""

import dagster as dg
import msgspec
import polars as pl

from assets.timing import SENSOR_SECONDS, end_of
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.tables import Tables
from fraud_platform.label_arrivals import Feed


@dg.sensor(
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Keeps one alert when a source of verdicts stops, and one when it is back.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def label_feed(
    context: dg.SensorEvaluationContext,
    tables: dg.ResourceParam[Tables],
    alerts: dg.ResourceParam[Alerts],
) -> dg.SensorResult | dg.SkipReason:
    """Tell people when the newest day finds a source stopped that was not, or back again.

    The cursor holds the sources that are known to have stopped. A source that cannot be judged
    keeps its state: what has stopped for long is not back because nobody expects it any more.
    """
    days = tables.days("label_arrivals")
    if not days:
        return dg.SkipReason("no day has compared its arrivals yet")
    stopped = set(msgspec.json.decode(context.cursor, type=list[str]) if context.cursor else [])
    changes = []
    for row in tables.read("label_arrivals", [days[-1]]).sort("label_source").to_dicts():
        source, feed = row["label_source"], Feed(row["feed"])
        if feed is Feed.STOPPED and source not in stopped:
            stopped.add(source)
        elif feed is Feed.ARRIVING and source in stopped:
            stopped.remove(source)
        else:
            continue
        _tell(alerts, row)
        changes.append(f"{source}: {feed}")
    return dg.SensorResult(
        cursor=msgspec.json.encode(sorted(stopped)).decode(),
        skip_reason=f"{days[-1]}: {', '.join(changes) or 'no source stopped or came back'}",
    )


def refusal_to_learn(tables: Tables) -> str | None:
    """Why nothing may be learnt from silence now, by the newest day's arrivals; None: it may."""
    days = tables.days("label_arrivals")[-1:]
    if not days:
        return None
    newest = tables.read("label_arrivals", days)
    stopped = newest.filter(pl.col("feed") == Feed.STOPPED.value)["label_source"].sort().to_list()
    return (
        f"verdicts of {', '.join(stopped)} have stopped: silence means nothing" if stopped else None
    )


def _tell(alerts: Alerts, row: dict[str, object]) -> None:
    source, is_back = row["label_source"], row["feed"] == Feed.ARRIVING.value
    advice = (
        "Silence means genuine again only for payments whose verdicts were sent late as well."
        if is_back
        else "Ask who sends them. Until they come, silence does not mean genuine: train nothing."
    )
    alerts.write(
        kind="label_feed_back" if is_back else "label_feed_stopped",
        text=f"Fraud verdicts of {source} {'arrive again' if is_back else 'have stopped'}: "
        f"{row['arrived']} came, {row['expected']:.1f} were expected. {advice}",
        facts={name: str(value) if name == "day" else value for name, value in row.items()},
        at=end_of(row["day"]).timestamp(),  # type: ignore[arg-type]  # a Date column
    )
