"""A dossier of a decision as a page: the house's tables, a picture, and links to where things are.

What belongs here: how a dossier reads. What it says is `decision_dossier`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from fraud_platform.adapters.model_card_page import card_tables
from fraud_platform.adapters.page import Link, Page, Table
from fraud_platform.adapters.svg_lineage import LineagePicture
from fraud_platform.lineage import TROUBLE
from fraud_platform.model_card import ModelCard

Told = Mapping[str, Any]
"""`Dossier.to_dict`, as JSON gives it back."""

_OF_MODEL = (
    *("version", "library", "digest", "trained_as_of", "training_set_digest"),
    *("review_threshold", "decline_threshold"),
)
_NO_ASSETS = {"decision", "model", "source_file", "journal_segment", "open_journal"}


def dossier_page(told: Told, dagster_url: str) -> Page:
    """The dossier as one page.

    Args:
        told: the dossier.
        dagster_url: address of Dagster's UI.
    """
    answer, replayed = told["answer"], told["replayed"]
    verdict = f"Replayed just now: {replayed['verdict']} ({replayed['values_compared']} values)."
    first = replayed["first_difference"]
    nodes = told["lineage"]["nodes"]
    digested = [one for one in nodes if one["state"] in ("same", *TROUBLE)]
    bad = [one for one in digested if one["state"] != "same"]
    return Page(
        title=f"Decision {answer['decision_id']}: {answer['decision']}",
        paragraphs=(
            *told["why"],
            verdict if first is None else f"{verdict} First difference: {_line(first)}.",
            *replayed["gaps"],
            f"Digested just now: {len(digested)} contents, {len(bad)} of them not as recorded.",
        ),
        tables=(
            _reasons(told),
            _proof(told["asked"]["transaction_id"]),
            Table("What was asked, what was answered", "", ("fact", "value"), _facts(told)),
            _seen(told),
            *_model(told["model"]),
            Table("Model roles at that moment", "", ("fact", "value"), _roles(told["roles"])),
            Table(
                "Said of the payment since",
                "" if told["labels"] else "Nothing.",
                ("verdict", "source", "known", "by"),
                tuple(
                    (
                        one["verdict"],
                        one["label_source"],
                        str(one["known_us"]),
                        _text(one["reported_by"]),
                    )
                    for one in told["labels"]
                ),
            ),
            _contents(nodes, dagster_url),
        ),
        charts=(LineagePicture(told["lineage"], _links(told["lineage"], dagster_url)),),
    )


def found_page(rows: Sequence[Mapping[str, Any]], form: str, note: str) -> Page:
    """What a search found.

    Args:
        rows: the decisions, newest first.
        form: the form to ask again with, HTML.
        note: how to read it.
    """
    return Page(
        title="Decisions",
        paragraphs=(),
        tables=(
            Table(
                f"{len(rows)} decisions",
                note,
                ("payment", "decided", "answer", "score", "model", "card", "amount"),
                tuple(
                    (
                        Link(
                            one["transaction_id"],
                            f"/audit/decisions/{quote(one['transaction_id'], safe='')}",
                        ),
                        one["decided"],
                        one["decision"],
                        _text(one["score"]),
                        _text(one["model_version"]),
                        one["card"],
                        f"{one['amount_minor']} {one['currency']}",
                    )
                    for one in rows
                ),
            ),
        ),
        charts=(),
        form=form,
    )


def _facts(told: Told) -> tuple[tuple[str, str], ...]:
    facts = {**told["asked"], **told["answer"], **told["margin"]}
    return tuple(
        (name.replace("_", " "), _text(value))
        for name, value in facts.items()
        if value not in (None, "", []) and not name.endswith("_us")
    )


def _reasons(told: Told) -> Table:
    rows = tuple(
        (one["code"], one["text"], _line_of(one["values"]), _line_of(one["contributions"]))
        for one in told["reasons"]
    )
    return Table("Reasons", "Shares of the log-odds.", ("code", "reason", "value", "share"), rows)


def _seen(told: Told) -> Table:
    ranked = sorted(told["seen"], key=lambda one: -abs(one["contribution"] or 0.0))
    rows = tuple(
        (
            one["name"],
            _text(one["value"]),
            _text(one["contribution"]),
            "" if one["since"] is None else f"{_minute(one['since'])} to {_minute(one['until'])}",
            one["counts"] if one["events"] is None else f"{one['events']} {one['counts']}",
        )
        for one in ranked
    )
    header = ("feature", "value", "share", "window", "in it")
    return Table("What was seen", "Strongest first; times are UTC.", header, rows)


def _proof(transaction_id: str) -> Table:
    address = f"/audit/decisions/{quote(transaction_id, safe='')}/proof"
    command = "deploy/verify_audit.py proof proof.json --public KEY.pub"
    rows = (("proof of the record", Link("proof.json", address), command),)
    note = "It holds the record whole, with the tokens of card and device."
    return Table("To take away", note, ("what", "file", "checked by"), rows)


def _model(model: Mapping[str, Any] | None) -> tuple[Table, ...]:
    if model is None:
        told = "None decided, or its bundle is not here any more."
        return (Table("Model", told, ("fact", "value"), ()),)
    facts = [(name.replace("_", " "), _text(model[name])) for name in _OF_MODEL]
    facts += [(name.replace("_", " "), _text(value)) for name, value in model["headline"].items()]
    slices = [
        (f"slice {one['name']}", _line(one)) for one in model["training_set"].get("slices", ())
    ]
    moves = tuple(
        (one["at"], one["act"], one["by"], one["why"], (one.get("proposal") or "")[:12])
        for one in model["moves"]
    )
    header = ("when", "act", "by", "why", "proposal")
    return (
        Table("Model", "", ("fact", "value"), (*facts, *slices)),
        Table("Who proposed, approved or moved it", "" if moves else "Nobody.", header, moves),
        *_card(model["card"]),
    )


def _card(told: Mapping[str, Any]) -> tuple[Table, ...]:
    """The model card, as it was sealed with the model."""
    if "untold" in told:
        return (Table("Model card", f"There is none: {told['untold']}.", ("fact", "value"), ()),)
    card = msgspec.convert(told, ModelCard)
    limits = tuple(("limit", text) for text in card.limits)
    purpose = Table("Purpose", "", ("fact", "text"), (("purpose", card.purpose), *limits))
    return tuple(
        replace(table, title=f"Model card: {table.title[0].lower()}{table.title[1:]}")
        for table in (purpose, *card_tables(card))
    )


def _roles(roles: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if not roles:
        return (("none", "no move is recorded before that moment"),)
    since = f"{roles['at']}: {roles['act']} by {roles['by']}"
    return (("since", since), *sorted((name, str(v)) for name, v in roles["aliases"].items()))


def _contents(nodes: Sequence[Mapping[str, Any]], dagster_url: str) -> Table:
    rows = tuple(
        (
            _linked(one, dagster_url),
            one["state"],
            one["digest"],
            _text(one.get("rows")),
            _run(one, dagster_url),
        )
        for one in nodes
    )
    note = "Digests are SHA-256 of the file's bytes; what is outside is kept by its sender."
    return Table("Contents", note, ("content", "now", "digest", "rows", "Dagster run"), rows)


def _linked(one: Mapping[str, Any], dagster_url: str) -> str:
    name = f"{one['kind']} {one['part']}"
    return (
        name
        if one["kind"] in _NO_ASSETS
        else Link(name, _asset(one["kind"], one["part"], dagster_url))
    )


def _run(one: Mapping[str, Any], dagster_url: str) -> str:
    run_id = one.get("run_id", "")
    return Link(run_id[:8], f"{dagster_url}/runs/{run_id}") if run_id else ""


def _links(lineage: Mapping[str, Any], dagster_url: str) -> dict[str, str]:
    return {
        kind: _asset(kind, span["last"], dagster_url)
        for kind, span in lineage["spans"].items()
        if kind not in _NO_ASSETS
    }


def _asset(kind: str, day: str, dagster_url: str) -> str:
    name = "training_set" if kind == "training_set_document" else kind
    # Without the view Dagster shows the newest day, whichever is asked for.
    return f"{dagster_url}/assets/{name}?view=partitions&partition={day}"


def _line(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in told.items())


def _line_of(values: Sequence[object]) -> str:
    return ", ".join(_text(value) for value in values)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
