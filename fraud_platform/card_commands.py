"""The command `fraud-platform scan`: whether a card number lies anywhere in a home.

Thin: it reads the settings, looks, records and prints.
"""

import json
import sys
from pathlib import Path

import click

from fraud_platform.adapters.operator import operator_of
from fraud_platform.settings import get_settings


@click.command()
@click.argument("also", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def scan(also: tuple[Path, ...], as_json: bool) -> None:
    """Read every file of the home, and of the folders and files ALSO, for card numbers.

    Says file and place, never the number. What was found is recorded in the audit log. Exit code 0
    when everything was read and nothing was found, 1 otherwise.
    """
    from fraud_platform.adapters.card_scan import recorded_scan

    settings = get_settings()
    found = recorded_scan(settings, operator_of(settings, "scan").act, also)
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.to_text())
    sys.exit(0 if found.is_clean else 1)
