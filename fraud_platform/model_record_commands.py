"""The commands `fraud-platform models reproduce` and `models card`: what is on record of a version.

Both read the home only; the registry is not asked.
"""

import json
import sys
from dataclasses import asdict

import click

from fraud_platform.adapters.model_card_page import card_markdown, card_page
from fraud_platform.adapters.model_cards import card_of_version
from fraud_platform.adapters.reproduction_run import reproduce as made_again
from fraud_platform.model_card import encode_card
from fraud_platform.reproduction import Reproduction
from fraud_platform.settings import get_settings


@click.command()
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reproduce(version: str, as_json: bool) -> None:
    """Make VERSION again from its manifest; exit 1 where trees, scores or inputs differ."""
    found = made_again(get_settings(), version)
    told = json.dumps({**asdict(found), "is_same": found.is_same}, indent=1)
    click.echo(told if as_json else _told(found))
    sys.exit(0 if found.is_same else 1)


@click.command()
@click.argument("version")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--html", "form", flag_value="html", help="Print a page.")
def card(version: str, form: str | None) -> None:
    """Print the model card of VERSION, with what was decided of it until now."""
    found = card_of_version(get_settings().models_dir, version)
    if form == "json":
        click.echo(encode_card(found), nl=False)
    else:
        click.echo(card_page(found).html() if form == "html" else card_markdown(found), nl=False)


def _told(found: Reproduction) -> str:
    """The outcome first, what may explain it last."""
    if found.is_same:
        head = (
            f"version {found.version} is reproduced: the same trees ({found.expected_trees[:12]}) "
            f"and the same bits on {found.golden_rows} golden rows"
        )
    else:
        head = f"version {found.version} is NOT reproduced: {found.differences[0]}"
    more = [f"also: {text}" for text in found.differences[1:]]
    if found.largest_gap:
        more.append(f"largest difference of a score: {found.largest_gap:.3g}")
    return "\n".join((head, *more, *(f"other than then: {text}" for text in found.notes)))
