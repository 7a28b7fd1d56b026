"""A page in Markdown, and its tables in LaTeX."""

import re

import pandas as pd


class Page:
    """What has been written so far."""

    def __init__(self):
        self.markdown = []
        self.latex = [
            "% The tables of paper.md. They need \\usepackage{booktabs}, and wide\n"
            "% ones \\resizebox of the package graphicx.\n"
        ]

    def heading(self, text, level=2):
        """Start a part."""
        self.text(f"{'#' * level} {text}")

    def text(self, text):
        """Add a paragraph."""
        self.markdown.append(text + "\n")

    def picture(self, title, name):
        """Add a picture that lies beside the page."""
        self.text(f"![{title}]({name})")

    def table(self, table, caption, number="{:.2f}"):
        """Add a table to both, with a caption in LaTeX.

        Parameters
        ----------
        table : DataFrame
            Numbers, and texts as they are; what is missing becomes a dash.
        caption : str
            What it shows.
        number : str
            Format of the numbers.
        """

        def cell(value):
            if isinstance(value, str):
                return value
            return "-" if pd.isna(value) else number.format(value)

        written = table.astype(object).map(cell)
        self.markdown.append(_markdown(written))
        label = re.sub("[^a-z0-9]+", "-", caption.partition(".")[0].lower()).strip("-")
        written.columns = written.columns.map(str)
        self.latex.append(
            written.to_latex(
                caption=caption,
                label=f"tab:{label}",
                position="t",
                escape=True,
                index_names=False,
                column_format="l" * table.index.nlevels + "r" * table.shape[1],
            )
        )

    def write(self, path):
        """Write both files, with the endings .md and .tex."""
        for suffix, parts in ((".md", self.markdown), (".tex", self.latex)):
            path.with_suffix(suffix).write_text("\n".join(parts), encoding="utf-8")


def _markdown(table):
    """A table of texts in Markdown, its index as first columns."""
    header = [*table.index.names, *map(str, table.columns)]
    header = [name or "" for name in header]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for key, row in zip(table.index, table.to_numpy(), strict=True):
        keys = key if isinstance(key, tuple) else (key,)
        lines.append("| " + " | ".join([*map(str, keys), *row]) + " |")
    return "\n".join(lines) + "\n"
