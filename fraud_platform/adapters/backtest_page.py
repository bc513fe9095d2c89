"""What a backtest shows to people: its tables, and the reviews per day as a picture."""

from fraud_platform.adapters.page import Page, Table
from fraud_platform.adapters.svg_chart import Axis, Chart, Line
from fraud_platform.backtest_report import BacktestReport


def backtest_page(report: BacktestReport) -> str:
    """The report as a self-contained HTML document."""
    return _page(report).html()


def backtest_markdown(report: BacktestReport) -> str:
    """The same as Markdown with its picture inside, for Dagster's metadata."""
    return _page(report).markdown()


def _page(report: BacktestReport) -> Page:
    return Page(
        title=f"Backtest of {report.candidate.name} against {report.against.name}",
        paragraphs=list(report.premises()),
        tables=[Table(*table) for table in report.tables()],
        charts=[_reviews(report)],
    )


def _reviews(report: BacktestReport) -> Chart:
    ours, theirs = report.candidate.workload, report.against.workload
    days = [float(number) for number in range(1, len(ours.days) + 1)]
    most = max(*ours.reviews, *theirs.reviews, ours.capacity)
    ends = (days[0], max(days[-1], days[0] + 1.0))
    return Chart(
        "Reviews per day",
        f"Day 1 is {ours.days[0]}. Dotted: {ours.capacity:,} reviews, what people can do; the "
        f"candidate asks for more on {ours.days_over} of {len(days)} days.",
        Axis("day", *ends),
        Axis("payments to review", 0, most * 1.05),
        (
            Line("candidate", days, [float(n) for n in ours.reviews]),
            Line("against", days, [float(n) for n in theirs.reviews], style=1),
            Line("", ends, (float(ours.capacity),) * 2, style=2),
        ),
    )
