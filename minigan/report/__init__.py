"""Views of a run: curves, animations, comparisons, and a page."""
