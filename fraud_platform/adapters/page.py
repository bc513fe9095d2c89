"""Reports for people: the same paragraphs, tables and pictures as one HTML file or as Markdown.

What belongs here: how a report looks. What it says is its owner's. The file needs nothing beside
it: no script, no style sheet, no address.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

STYLE = (
    "body{font:15px/1.5 sans-serif;color:#1c1c1c;background:#fff;max-width:62rem;margin:2rem auto;"
    "padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.87rem}"
    "th,td{border-bottom:1px solid #ddd;padding:.2rem .6rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(26rem,1fr));gap:1rem}"
    "figure{margin:0}figure:only-child{grid-column:1/-1;max-width:40rem}"
    "svg{width:100%;height:auto}figcaption{font-size:.87rem;color:#444}"
    "@media print{body{margin:0;padding:0;max-width:none;font-size:11px}"
    "h1{font-size:1.3rem}h2{break-after:avoid;margin-top:1rem;font-size:1rem}"
    "figure,tr{break-inside:avoid}figure:only-child svg{max-height:13cm}"
    ".wide{overflow-x:visible}table{font-size:9px}th,td{padding:.1rem .3rem}"
    "td:last-child{overflow-wrap:anywhere}a{color:inherit}}"
)


class Link(str):
    """A cell that leads somewhere: its text, and as HTML also the address.

    Args:
        text: what is read.
        address: a path of the same server, or a whole address.
    """

    address: str

    def __new__(cls, text: str, address: str) -> "Link":
        """A text that knows where it leads."""
        made = super().__new__(cls, text)
        made.address = address
        return made


@dataclass(frozen=True)
class Table:
    """Rows of short texts under a heading.

    Attributes:
        title: the heading.
        note: how to read it; may be empty.
        header: one text per column; the first column names the row.
        rows: texts, as many as `header` has.
    """

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Picture(Protocol):
    """What a page can show: it says in words what it shows."""

    @property
    def title(self) -> str:
        """Above the picture."""

    @property
    def description(self) -> str:
        """What somebody who cannot see it should know."""

    def svg(self) -> str:
        """A standalone SVG document."""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: what it is about.
        paragraphs: sentences at the top.
        tables: in this order; the charts follow the first one.
        charts: pictures.
        form: HTML of a form above all, on a page that a server shows; or "".
    """

    title: str
    paragraphs: Sequence[str]
    tables: Sequence[Table]
    charts: Sequence[Picture]
    form: str = ""

    def html(self) -> str:
        """One self-contained HTML document."""
        sections = [*map(_html_table, self.tables)]
        figures = "".join(
            f"<figure>{chart.svg()}<figcaption>{escape(chart.description)}</figcaption></figure>"
            for chart in self.charts
        )
        if figures:
            title = self.charts[0].title if len(self.charts) == 1 else "Plots"
            plots = (
                f'<section><h2>{escape(title)}</h2><div class="charts">{figures}</div></section>'
            )
            sections.insert(1, plots)
        said = "".join(f"<p>{escape(text)}</p>" for text in self.paragraphs)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>"
            f"<body><main><h1>{escape(self.title)}</h1>{self.form}{said}{''.join(sections)}</main></body>"
            "</html>\n"
        )

    def markdown(self) -> str:
        """The same as Markdown, pictures inside as data addresses."""
        sections = [*map(_markdown_table, self.tables)]
        if self.charts:
            sections.insert(1, "\n".join(map(markdown_chart, self.charts)))
        return "\n\n".join((*map(_plain, self.paragraphs), *sections)) + "\n"


def markdown_chart(chart: Picture) -> str:
    """A picture inside a data address, told in words to who cannot see it."""
    coded = base64.b64encode(chart.svg().encode()).decode()
    told = _plain(f"{chart.title}. {chart.description}")
    return f"![{told}](data:image/svg+xml;base64,{coded})"


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.header)
    body = "".join(
        f'<tr><th scope="row">{_html_cell(row[0])}</th>'
        + "".join(f"<td>{_html_cell(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f"<section><h2>{escape(table.title)}</h2><p>{escape(table.note)}</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _html_cell(text: str) -> str:
    if not isinstance(text, Link):
        return escape(text)
    return f'<a href="{escape(text.address)}">{escape(text)}</a>'


def _markdown_table(table: Table) -> str:
    lines = [
        " | ".join(map(_plain, table.header)),
        "|".join(("---", *["---:"] * (len(table.header) - 1))),
        *(" | ".join(map(_plain, row)) for row in table.rows),
    ]
    body = "\n".join(f"| {line} |" for line in lines)
    return f"#### {_plain(table.title)}\n\n{_plain(table.note)}\n\n{body}".replace(
        "\n\n\n\n", "\n\n"
    )


def _plain(text: str) -> str:
    """Text that no Markdown reader takes for markup, a link or a new cell."""
    for mark in "\\`*_|[]~#":
        text = text.replace(mark, f"\\{mark}")
    return escape(text, quote=False).replace("\n", " ")
