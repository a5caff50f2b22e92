"""Train a DCGAN on MNIST: python examples/train_mnist.py [--help]

The same as `minigan train`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone works without installing minigan

from minigan.cli.main import main

sys.exit(main(["train", *sys.argv[1:]]))
