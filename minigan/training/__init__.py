"""The training loop, and what a run needs to go on bit for bit."""

from minigan.training.loop import Game, open_game, open_images, train

__all__ = ["Game", "open_game", "open_images", "train"]
