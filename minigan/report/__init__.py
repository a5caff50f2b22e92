"""What a run leaves to look at: curves, animations, comparisons, and a page."""
