"""The training loop, and everything needed to resume a run bit for bit."""

from minigan.data.base import Log
from minigan.training.config import Config, new_config, options_like, versions
from minigan.training.game import Game
from minigan.training.loop import train
from minigan.training.open_game import load_images, open_game, open_images, parse_label
from minigan.training.run_folder import Run

__all__ = [
    "Config", "Game", "Log", "Run", "load_images", "new_config", "open_game", "open_images",
    "options_like", "parse_label", "train", "versions",
]  # fmt: skip
