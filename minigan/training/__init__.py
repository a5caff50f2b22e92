"""The training loop, and everything needed to resume a run bit for bit."""

from minigan.training.game import Game
from minigan.training.loop import train
from minigan.training.open_game import open_game, open_images

__all__ = ["Game", "open_game", "open_images", "train"]
