"""Lines of code: what remains without blank lines, comments and docstrings.

python tests/support/count_lines.py [FOLDER]      by room and by file
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ("arrays", "layers")  # rooms, and these files:
CORE_FILES = (
    "averaging", "frozen_statistics", "gan", "gradcheck", "initializers", "losses", "objective",
    "optimizers", "parameters",
)  # fmt: skip
NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(text: str) -> int:
    """-> lines with code on them; a string that is a statement by itself is none."""
    strings = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings.update(range(node.lineno, node.end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - strings)


def count(package: Path = ROOT / "minigan") -> dict[str, int]:
    """-> file, relative to the package -> lines of code"""
    files = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix(): code_lines(path.read_text()) for path in files}


def is_core(file: str) -> bool:
    parts = Path(file).with_suffix("").parts
    return parts[0] in CORE if len(parts) > 1 else parts[0] in CORE_FILES


if __name__ == "__main__":
    counts = count(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "minigan")
    rooms = Counter()
    for file, lines in counts.items():
        rooms[file.split("/")[0] if "/" in file else "(flat)"] += lines
    for file, lines in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{lines:6,}  {file}")
    print()
    for room, lines in rooms.most_common():
        print(f"{lines:6,}  {room}")
    core = sum(lines for file, lines in counts.items() if is_core(file))
    print(f"{core:6,}  the core\n{sum(counts.values()):6,}  the package")
