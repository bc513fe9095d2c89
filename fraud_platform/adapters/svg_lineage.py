"""The graph of lineage as a picture: a box per kind of content, from a decision to its sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from fraud_platform.lineage import TROUBLE

_WIDTH, _HEIGHT, _ACROSS, _DOWN = 196, 54, 228, 70
_DEPTHS = (
    ("decision",),
    ("model", "journal_segment", "open_journal"),
    ("challenger", "xgboost_model", "lightgbm_model"),
    ("training_set", "training_set_document"),
    ("transaction_features", "mature_labels"),
    ("validated_transactions", "labels"),
    ("raw_transactions",),
    ("source_file",),
)
"""The rows of the picture, in the order of the data flow backwards; others stand last."""


@dataclass(frozen=True)
class LineagePicture:
    """What a decision rests on, as a picture.

    Attributes:
        lineage: the part `lineage` of a dossier.
        links: by kind, an address that its box leads to.
    """

    lineage: Mapping[str, Any]
    links: Mapping[str, str]

    @property
    def title(self) -> str:
        """Above the picture."""
        return "What it rests on"

    @property
    def description(self) -> str:
        """What somebody who cannot see it should know."""
        kinds = [f"{kind} ({span['contents']})" for kind, span in self.lineage["spans"].items()]
        return f"From the decision to its sources: {', '.join(kinds)}. Red: not as recorded."

    def svg(self) -> str:
        """A standalone SVG document; boxes lead to the addresses given."""
        places = self._places()
        width = _ACROSS * (1 + max(x for x, _ in places.values()))
        height = _DOWN * (1 + max(y for _, y in places.values()))
        nodes = self.lineage["nodes"]
        pairs = {(nodes[start]["kind"], nodes[end]["kind"]) for start, end in self.lineage["edges"]}
        lines = "".join(_line(places[a], places[b]) for a, b in sorted(pairs) if a != b)
        boxes = "".join(self._box(kind, place) for kind, place in places.items())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="sans-serif"><title>{escape(self.description)}</title>{lines}{boxes}</svg>'
        )

    def _places(self) -> dict[str, tuple[int, int]]:
        kinds = list(self.lineage["spans"])
        known = [kind for depth in _DEPTHS for kind in depth]
        rows: list[Sequence[str]] = [
            [kind for kind in depth if kind in kinds]
            for depth in (*_DEPTHS, [kind for kind in kinds if kind not in known])
        ]
        filled = [row for row in rows if row]
        return {kind: (x, y) for y, row in enumerate(filled) for x, kind in enumerate(row)}

    def _box(self, kind: str, place: tuple[int, int]) -> str:
        span = self.lineage["spans"][kind]
        bad = sum(one["kind"] == kind and one["state"] in TROUBLE for one in self.lineage["nodes"])
        last = "" if span["first"] == span["last"] else f" to {span['last']}"
        told = f"{bad} not as recorded" if bad else f"{span['contents']} as recorded"
        told = told if bad or kind not in ("decision", "source_file", "open_journal") else ""
        x, y = place[0] * _ACROSS + 4, place[1] * _DOWN + 4
        texts = ((kind, 12, "bold"), (f"{span['first']}{last}", 10, "normal"), (told, 10, "normal"))
        box = (
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="#fff" '
            f'stroke="{"#b00020" if bad else "#555"}"/>'
        ) + "".join(
            f'<text x="{x + 8}" y="{y + 16 + 15 * row}" font-size="{size}" font-weight="{weight}"'
            f' fill="#1c1c1c">{escape(str(text)[:32])}</text>'
            for row, (text, size, weight) in enumerate(texts)
        )
        if kind not in self.links:
            return box
        return f'<a href="{escape(self.links[kind], quote=True)}">{box}</a>'


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] * _ACROSS + 4 + _WIDTH / 2, start[1] * _DOWN + 4 + _HEIGHT
    x2, y2 = end[0] * _ACROSS + 4 + _WIDTH / 2, end[1] * _DOWN + 4
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#999"/>'
