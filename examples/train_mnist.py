"""Train a DCGAN on MNIST: python examples/train_mnist.py [--help]

The same as `minigan train`.
"""

import sys

from minigan.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
