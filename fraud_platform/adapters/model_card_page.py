"""A model's card as a page: HTML, Markdown, and the few lines that fit a registry's description.

What belongs here: how a card reads. What it says is `model_card`.
"""

from fraud_platform.adapters.page import Page, Table
from fraud_platform.model_card import ModelCard

_MOST_CHARACTERS = 4_900
"""MLflow keeps 5,000 characters of a description on some databases."""
_WHOLE = "\n\nThe whole card: model_card.md among the run's artifacts.\n"


def card_page(card: ModelCard) -> Page:
    """The card as paragraphs and tables, with what was decided of it."""
    decided = Table(
        "What was decided of it",
        "" if card.approvals else "Nothing yet.",
        ("act", "by", "when", "why"),
        tuple((one.act, one.by, one.at, one.why) for one in card.approvals),
    )
    *told, lineage = card_tables(card)
    return Page(
        title=f"Model card of version {card.version or '(not registered)'}",
        paragraphs=(card.purpose, *card.limits),
        tables=(*told, decided, lineage),
        charts=(),
    )


def card_tables(card: ModelCard) -> tuple[Table, ...]:
    """What the card told when it was sealed, beside its purpose and limits."""
    return (
        Table("What it is", "", ("fact", "value"), _facts(card)),
        _metrics(card),
        _segments(card),
        _fairness(card),
        Table(
            "Known failure modes",
            "Names are scenarios of the healing benchmark.",
            ("name", "what"),
            tuple((mode.name, mode.what) for mode in card.failure_modes),
        ),
        Table("Lineage", "Digests are SHA-256.", ("of", "digest"), _lineage(card)),
    )


def card_markdown(card: ModelCard) -> str:
    """The whole card as Markdown."""
    page = card_page(card)
    return f"# {page.title}\n\n{page.markdown()}"


def card_description(card: ModelCard) -> str:
    """The card as far as a registry's description holds it, cut between lines."""
    told = card_markdown(card)
    if len(told) <= _MOST_CHARACTERS:
        return told
    room = told[: _MOST_CHARACTERS - len(_WHOLE)]
    return room[: room.rindex("\n")] + _WHOLE


def _facts(card: ModelCard) -> tuple[tuple[str, str], ...]:
    calibration = card.calibration
    facts = [
        ("version", card.version or "not registered yet"),
        ("library", card.library),
        ("trained on", f"{card.data.period}, as known at {card.data.as_of}"),
        *(
            (f"{part.name} rows", f"{part.rows:,}, {part.frauds:,} frauds, from {part.first_day}")
            for part in card.data.slices
        ),
        *(("left out", text) for text in card.data.left_out),
        ("features", f"{len(card.features)}: {', '.join(card.features)}"),
        ("does without", ", ".join(card.without) or "nothing"),
        (
            "calibrated on",
            f"{calibration.frauds:,} frauds, {calibration.genuine:,} genuine payments",
        ),
        ("states a probability", "yes" if calibration.states_probability else "no: too few frauds"),
        ("calibration error", _number(calibration.expected_calibration_error)),
        ("Brier score", _number(calibration.brier)),
        ("calibration slope", _number(calibration.slope)),
    ]
    return tuple(facts)


def _metrics(card: ModelCard) -> Table:
    rows = tuple((name, f"{value:,.6g}") for name, value in card.metrics.items())
    return Table("Figures, all rows together", "On the test slice.", ("figure", "value"), rows)


def _segments(card: ModelCard) -> Table:
    rows = tuple(
        (
            f"{part.column}: {part.name}",
            f"{part.rows:,}",
            f"{part.frauds:,}",
            _number(part.recall),
            _number(part.false_positive_rate),
        )
        for part in card.segments
    )
    unjudged = ", ".join(card.unjudged)
    note = f"The rows do not have: {unjudged}." if unjudged else ""
    header = ("part", "payments", "frauds", "recall", "false positive rate")
    return Table("Parts of the traffic", note, header, rows)


def _fairness(card: ModelCard) -> Table:
    rows = tuple((one.column, one.verdict, ", ".join(one.gaps) or "-") for one in card.fairness)
    note = "Whether parts are disturbed and declined alike, within the configured ratio."
    return Table("Treated alike", note, ("column", "verdict", "parts with a gap"), rows)


def _lineage(card: ModelCard) -> tuple[tuple[str, str], ...]:
    found = card.lineage
    facts = [
        ("model file", found.model_digest),
        ("training set's document", found.training_set_digest),
        ("rows it was judged on", found.judged_rows_digest),
        ("declaration of the features", found.feature_spec_digest),
        ("run in the registry", found.run_id),
        ("trees of version", found.trees_of or "itself"),
    ]
    if (recipe := found.recipe) is not None:
        dirty = ", changed since" if recipe.is_dirty else ""
        facts += [
            ("commit", f"{recipe.code_commit or 'unknown'}{dirty}"),
            ("dependencies", recipe.lock_digest or "unknown"),
            ("machine", recipe.machine or "unknown"),
            ("seed", str(recipe.seed)),
        ]
    return tuple(facts)


def _number(value: float | None) -> str:
    return "cannot judge" if value is None else f"{value:.4g}"
