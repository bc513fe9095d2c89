"""What an evaluation shows to people: tables of its counts, and the plots.

What belongs here: choosing words and pictures. Every number comes from the report; every rate
stands in one table with the counts it follows from.
"""

from collections.abc import Iterator, Sequence

from fraud_platform.adapters.page import Page, Table
from fraud_platform.adapters.svg_chart import Axis, Chart, Line
from fraud_platform.bootstrap import Interval
from fraud_platform.confusion import Confusion
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.evaluation_curves import RECALLS
from fraud_platform.headlines import HEADLINES
from fraud_platform.reliability import Reliability
from fraud_platform.segments import Ratio, SegmentTable

_UNKNOWN = "cannot judge"
_Named = Sequence[tuple[str, EvaluationReport]]


def evaluation_page(report: EvaluationReport, name: str = "model") -> str:
    """One report as a self-contained HTML document.

    Args:
        report: of `evaluation.evaluate`.
        name: what was judged, for the title.
    """
    return _evaluation(report, name).html()


def evaluation_markdown(report: EvaluationReport, name: str = "model") -> str:
    """The same as Markdown with its plots inside, for Dagster's metadata."""
    return _evaluation(report, name).markdown()


def comparison_markdown(
    challenger: EvaluationReport,
    champion: EvaluationReport | None,
    *,
    names: tuple[str, str] = ("challenger", "champion"),
    verdict: Sequence[str] = (),
    tables: Sequence[Table] = (),
) -> str:
    """Two models on the same rows as Markdown with its plots inside, for Dagster's metadata.

    Args:
        challenger: its report.
        champion: the champion's on the same rows; None while there is none.
        names: what to call them.
        verdict: the answer and its reasons, a sentence each, shown first.
        tables: further tables, for instance the gates, shown after the headline numbers.
    """
    return _comparison(challenger, champion, names, verdict, tables).markdown()


def _evaluation(report: EvaluationReport, name: str) -> Page:
    sides = ((name, report),)
    return Page(
        title=f"Evaluation of {name}",
        paragraphs=list(_premises(report)),
        tables=[_headlines(sides), *_details(report)],
        charts=_charts(sides),
    )


def _comparison(
    challenger: EvaluationReport,
    champion: EvaluationReport | None,
    names: tuple[str, str],
    verdict: Sequence[str],
    tables: Sequence[Table],
) -> Page:
    sides = [(names[0], challenger)]
    if champion is not None:
        sides.append((names[1], champion))
    return Page(
        title=" against ".join(name for name, _ in sides),
        paragraphs=[*verdict, *_premises(challenger)],
        tables=[_headlines(sides), *tables, *(_counts(r, f" of {name}") for name, r in sides)]
        + [_segments(sides, place) for place in range(len(challenger.segments))],
        charts=_charts(sides),
    )


def _premises(report: EvaluationReport) -> Iterator[str]:
    yield (
        f"Judged on {report.rows:,} transactions with mature labels, {report.frauds:,} of them "
        f"fraud, on {report.fraud_cards:,} cards. Rows {report.rows_digest[:12]}."
    )
    if report.effective_rows < report.rows - 0.5:
        yield (
            "Rows are weighted by inverse propensity. They say as much as "
            f"{report.effective_rows:,.0f} equally weighted ones, their frauds as much as "
            f"{report.effective_frauds:,.0f}."
        )
    if not report.intervals and report.policy.draws:
        yield (
            f"Too few cards have fraud for intervals: {report.fraud_cards}, expected at least "
            f"{report.policy.min_fraud_cards}."
        )
    if report.missing_segments:
        yield f"No segments by {', '.join(report.missing_segments)}: the rows have no such column."


def _headlines(sides: _Named) -> Table:
    confidence = f"{sides[0][1].policy.confidence:.0%} interval"
    header = ["measure"]
    for name, _ in sides:
        header += [name, confidence]
    rows = []
    for measure, (text, form) in HEADLINES.items():
        row = [text.replace("@k", f"@{sides[0][1].k}")]
        for _, report in sides:
            value = getattr(report, measure)
            row += [_number(value, form), _span(report.intervals.get(measure), form)]
        rows.append(tuple(row))
    return Table(
        "Headline numbers",
        "Intervals by drawing cards; the thresholds of review and decline stay.",
        tuple(header),
        tuple(rows),
    )


def _details(report: EvaluationReport) -> Iterator[Table]:
    yield _counts(report)
    yield _money(report)
    if report.reliability is not None:
        yield _reliability(report.reliability)
    for place in range(len(report.segments)):
        yield _segments((("", report),), place)
    for table in report.segments:
        yield _fairness(table)


def _counts(report: EvaluationReport, of: str = "") -> Table:
    def row(name: str, found: Confusion) -> tuple[str, ...]:
        counts = (found.caught, found.missed, found.disturbed, found.passed)
        rates = (found.recall, found.false_positive_rate, found.precision)
        return (
            name,
            f"{found.threshold:.5f}",
            *(f"{count:,}" for count in counts),
            *(_number(rate, ".4f") for rate in rates),
            f"{found.caught_minor:,.0f}",
            f"{found.missed_minor:,.0f}",
        )

    return Table(
        f"Counts at every threshold{of}",
        "Frauds are caught or missed, genuine transactions disturbed or passed. Amounts in minor "
        "units. With weights, rates and amounts are weighted and counts are not.",
        (
            *("at", "score", "caught", "missed", "disturbed", "passed"),
            *("recall", "FPR", "precision", "amount caught", "amount missed"),
        ),
        tuple(row(name.replace("_", " "), found) for name, found in report.confusions.items()),
    )


def _money(report: EvaluationReport) -> Table:
    money = report.money
    lines = {
        "lost with everything approved": money.without_model_minor,
        "lost with these outcomes": money.lost_minor,
        "reviews": money.reviews_minor,
        "false declines": money.false_declines_minor,
        "saved net": money.saved_minor,
    }
    return Table(
        "Money",
        "All judged transactions together, in minor units of the currency.",
        ("", "minor units"),
        tuple((name, f"{value:,.0f}") for name, value in lines.items()),
    )


def _reliability(found: Reliability) -> Table:
    slope = _number(found.slope, ".2f")
    return Table(
        "Reliability of the stated probabilities",
        f"Expected calibration error {found.expected_calibration_error:.5f}, Brier score "
        f"{found.brier:.5f}, calibration slope {slope} (1 is right).",
        ("bin", "rows", "frauds", "stated", "found", "interval"),
        tuple(
            (
                str(number),
                f"{part.rows:,}",
                f"{part.frauds:,}",
                f"{part.probability:.5f}",
                f"{part.fraud_share:.5f}",
                f"{part.low:.5f} to {part.high:.5f}",
            )
            for number, part in enumerate(found.bins, start=1)
        ),
    )


def _segments(sides: _Named, place: int) -> Table:
    tables = [report.segments[place] for _, report in sides]
    policy = sides[0][1].policy.segments
    header = ["segment", "rows", "frauds"]
    for name, _ in sides:
        of = f", {name}" if name else ""
        header += [f"caught{of}", f"recall{of}", f"disturbed{of}", f"FPR{of}", f"saved{of}"]
    rows = []
    for parts in zip(*(table.segments for table in tables), strict=True):
        row = [parts[0].name, f"{parts[0].review.rows:,}", f"{parts[0].review.frauds:,}"]
        for part in parts:
            row += [
                f"{part.review.caught:,}",
                _rate(part.recall),
                f"{part.review.disturbed:,}",
                _rate(part.false_positive_rate),
                f"{part.money.saved_minor:,.0f}",
            ]
        rows.append(tuple(row))
    return Table(
        f"Segments by {tables[0].column}",
        f"At the review threshold. Recall needs {policy.min_frauds} frauds, the false positive "
        f"rate {policy.min_genuine} genuine transactions. Clopper and Pearson's intervals take "
        "transactions as independent. Saved net in minor units.",
        tuple(header),
        tuple(rows),
    )


def _fairness(table: SegmentTable) -> Table:
    return Table(
        f"Fairness across {table.column}: {table.verdict}",
        "Each segment's rate over that of all others; intervals by card, all of them together.",
        ("segment", "FPR ratio", "verdict", "decline ratio", "verdict"),
        tuple(
            (part.name, *_ratio(part.fpr_ratio), *_ratio(part.decline_ratio))
            for part in table.segments
        ),
    )


def _charts(sides: _Named) -> list[Chart]:
    charts = [_precision_recall(sides), _roc(sides), _money_curve(sides)]
    charts += [_reliability_chart(sides)] if any(r.reliability for _, r in sides) else []
    return charts + [_histogram(name, report) for name, report in sides]


def _precision_recall(sides: _Named) -> Chart:
    said = "; ".join(
        f"{name}: average precision {report.average_precision:.3f}, precision "
        f"{report.curves.precision[49]:.2f} at a recall of one half"
        for name, report in sides
    )
    lines = tuple(
        Line(
            name,
            tuple(RECALLS.tolist()),
            report.curves.precision,
            report.curves.precision_low,
            report.curves.precision_high,
            style,
        )
        for style, (name, report) in enumerate(sides)
    )
    return Chart(
        "Precision over recall",
        f"{said}. The band is the interval by card at each recall.",
        Axis("recall", 0, 1),
        Axis("precision", 0, 1),
        lines,
    )


def _roc(sides: _Named) -> Chart:
    said = "; ".join(f"{name}: area {report.auc_roc:.3f}" for name, report in sides)
    lines = [
        Line(name, r.curves.false_positive_rates, r.curves.recall, style=style)
        for style, (name, r) in enumerate(sides)
    ]
    return Chart(
        "Recall over false positive rate (ROC)",
        f"{said}. Dotted: a random order.",
        Axis("false positive rate", 0, 1),
        Axis("recall", 0, 1),
        (*lines, Line("", (0.0, 1.0), (0.0, 1.0), style=2)),
    )


def _money_curve(sides: _Named) -> Chart:
    lines = []
    for style, (name, report) in enumerate(sides):
        curve = report.curves.money
        lines.append(
            Line(f"{name}, declining", curve.acted_upon, curve.declined_minor, style=style)
        )
    name, report = sides[0]
    curve = report.curves.money
    if len(sides) == 1:
        lines.append(Line("reviewing", curve.acted_upon, curve.reviewed_minor, style=1))
    best = max(range(len(curve.declined_minor)), key=curve.declined_minor.__getitem__)
    values = [value for line in lines for value in line.y]
    top = max(*values, 0.0) * 1.05 or 1.0
    return Chart(
        "Money saved by the share acted upon",
        f"{name}: declining saves most, {curve.declined_minor[best]:.1f} minor units per "
        f"transaction, from score {curve.thresholds[best]:.4f} on: "
        f"{curve.acted_upon[best]:.2%} of all transactions.",
        Axis("share of transactions acted upon", min(curve.acted_upon), 1, logarithmic=True),
        Axis("saved, minor units per transaction", max(min(*values, 0.0), -top), top),
        tuple(lines),
    )


def _reliability_chart(sides: _Named) -> Chart:
    lines, lowest = [], 1.0
    for style, (name, report) in enumerate(sides):
        if report.reliability is None:
            continue
        bins = report.reliability.bins
        stated = [part.probability for part in bins]
        lowest = min(lowest, *stated, *(part.fraud_share for part in bins if part.frauds))
        low, high = [part.low for part in bins], [part.high for part in bins]
        lines.append(Line(name, stated, [part.fraud_share for part in bins], low, high, style))
    lowest = max(lowest / 2, 1e-6)
    both = (lowest, 1.0)
    return Chart(
        "Found over stated probability",
        "On the dotted line the probabilities come true. The band is each bin's interval.",
        Axis("stated probability", *both, logarithmic=True),
        Axis("share of fraud found", *both, logarithmic=True),
        (*lines, Line("", both, both, style=2)),
    )


def _histogram(name: str, report: EvaluationReport) -> Chart:
    found = report.curves.histogram
    x = [edge for edge in found.edges for _ in (0, 1)][1:-1]
    most = max(*found.frauds, *found.genuine, 2)
    review, decline = report.review_threshold, report.decline_threshold
    return Chart(
        f"Scores by class, {name}",
        f"Nothing where a line touches the lower edge. Reviewed from {review:.4f}, declined from "
        f"{decline:.4f} on.",
        Axis("score", found.edges[0], found.edges[-1]),
        Axis("transactions", 0.5, float(most), logarithmic=True),
        (
            Line("genuine", x, [float(n) for n in found.genuine for _ in (0, 1)]),
            Line("fraud", x, [float(n) for n in found.frauds for _ in (0, 1)], style=1),
            Line("review", (review, review), (0.5, float(most)), style=2),
        ),
    )


def _number(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)


def _span(found: Interval | None, form: str) -> str:
    return _UNKNOWN if found is None else f"{found.low:{form}} to {found.high:{form}}"


def _rate(found: Interval | None) -> str:
    return _UNKNOWN if found is None else f"{found.estimate:.3f} ({_span(found, '.3f')})"


def _ratio(ratio: Ratio) -> tuple[str, str]:
    found = ratio.interval
    shown = "" if found is None else f"{found.estimate:.2f} ({_span(found, '.2f')})"
    return shown, ratio.verdict.value
