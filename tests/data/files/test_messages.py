"""Names of files in messages."""

import os

from minigan.data.files.messages import printable


def test_names_are_shown_whatever_they_are():
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable(os.fsdecode(b"a\xff.png")) == "a\\xff.png"
    # in an ascii locale, the bytes of a name are surrogates
    assert printable("é.png".encode().decode("ascii", "surrogateescape")) == "é.png"
    assert printable("\ud800.png") == "\\ud800.png"  # from JSON
