"""Cards that lack one field each."""

from collections.abc import Mapping

import msgspec

from fraud_platform.model_card import ModelCard

GROUPED = ("segments", "fairness")
"""What must be told besides, where groups are configured."""


def blanked(card: ModelCard, path: str) -> ModelCard:
    """The card without one field; a number that is required becomes none at all."""
    first, _, rest = path.partition(".")
    found = getattr(card, first)
    if not rest:
        return msgspec.structs.replace(card, **{first: type(found)()})
    if isinstance(found, Mapping):
        return msgspec.structs.replace(
            card, **{first: {name: value for name, value in found.items() if name != rest}}
        )
    empty = None if isinstance(getattr(found, rest), int | float) else ""
    part = msgspec.structs.replace(found, **{rest: empty})
    return msgspec.structs.replace(card, **{first: part})
