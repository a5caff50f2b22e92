"""The README as a package index shows it: there, links to files of this repository lead nowhere.

If $MINIGAN_HOME_PAGE names the repository (https://.../owner/minigan), links and pictures point to
its files; otherwise links become plain text and pictures are left out. All else is in setup.cfg.
"""

import os
import re
from pathlib import Path

from setuptools import setup

RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")
HOME = os.environ.get("MINIGAN_HOME_PAGE", "").rstrip("/")


def absolute(link):
    """A match of RELATIVE -> the text that replaces it."""
    mark, text, path = link.groups()
    if not HOME:
        return "" if mark else text
    return f"{mark}[{text}]({HOME}/{'raw' if mark else 'blob'}/main/{path})"


readme = (Path(__file__).parent / "README.md").read_text("utf-8")
urls = {"Repository": HOME} if HOME else {}
setup(long_description=RELATIVE.sub(absolute, readme), project_urls=urls)
