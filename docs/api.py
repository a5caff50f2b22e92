"""Make the API pages from the docstrings, in the order of docs/reading.md.

    pip install -e '.[docs]' && python docs/api.py        writes docs/api/index.html

Formulas and tables of arguments are laid out in the source: they are shown as they are typed there.
"""

import re
import sys
import warnings
from pathlib import Path
from textwrap import dedent

import pdoc
import pdoc.render

import minigan

DOCS = Path(__file__).parent
ROW = re.compile(r"- `([\w/]+\.py)`: (.+)")


def reading_order() -> list[tuple[str, list[tuple[str, str]]]]:
    """-> (heading, [(module, what one learns there), ...]) of docs/reading.md"""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in (DOCS / "reading.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            found.append((line[3:], []))
        elif row := ROW.match(line):
            name = "minigan." + row[1].removesuffix(".py").replace("/", ".")
            found[-1][1].append((name, row[2].replace("`", "")))
    return [section for section in found if section[1]]


def paragraphs(docstring: str) -> list[tuple[bool, str]]:
    """A docstring -> (is its layout meant?, text) of each paragraph"""
    found = []
    for text in re.split(r"\n\s*\n", docstring.strip("\n")):
        is_layout = any(re.search(r"^\s|\S  +\S", line) for line in text.splitlines())
        found.append((is_layout, dedent(text) if is_layout else " ".join(text.split())))
    return found


def main(out: Path) -> None:
    warnings.simplefilter("error")  # a page that is wrong is not made
    reading = reading_order()
    pdoc.render.configure(template_directory=DOCS / "templates", search=True)
    pdoc.render.env.filters["paragraphs"] = paragraphs
    pdoc.render.env.globals.update(reading=reading, version=minigan.__version__)
    modules = [module for _, section in reading for module, _ in section]
    pdoc.pdoc(*modules, output_directory=out)
    print(f"{len(modules)} modules in {out / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else DOCS / "api")
