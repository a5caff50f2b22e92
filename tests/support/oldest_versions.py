"""The oldest versions that setup.cfg promises to users, as requirements for pip.

pip install $(python tests/support/oldest_versions.py)
"""

import configparser
import re
from pathlib import Path

SETUP = Path(__file__).resolve().parents[2] / "setup.cfg"
EXTRAS = ("plots", "export", "svhn", "svm", "test")  # the others need a GPU, or are for developers


def oldest_versions() -> dict[str, set[str]]:
    """-> package -> its oldest versions; one, unless extras disagree"""
    setup = configparser.ConfigParser()
    setup.read(SETUP, "utf-8")
    lines = [setup["options"]["install_requires"]]
    lines += [setup["options.extras_require"][name] for name in EXTRAS]
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w-]+) >=([\d.]+)$", "\n".join(lines), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


if __name__ == "__main__":
    print(*(f"{package}=={max(versions)}" for package, versions in oldest_versions().items()))
