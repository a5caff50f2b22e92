"""python -m minigan: the same as the command `minigan`."""

import sys

from minigan.cli.main import main

sys.exit(main())
