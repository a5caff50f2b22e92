"""`python -m minigan` in the folder that holds the clone, which Python then takes for minigan."""

import runpy
import sys
from pathlib import Path

sys.argv[0] = "minigan"  # the command: see stop_signals.py
sys.modules.pop("minigan", None)
sys.path.insert(0, str(Path(__file__).resolve().parent))
runpy.run_module("minigan", run_name="__main__", alter_sys=True)
