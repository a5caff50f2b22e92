"""Train a DCGAN on your own pictures: python examples/train_folder.py --images DIR [--size 64]

The same as `minigan train --images DIR`, whose default preset is image64.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone works without installing minigan

from minigan.cli.main import main

sys.exit(main(["train", "--dataset", "folder", *sys.argv[1:]]))
