"""One module for each data set, or family of sets in one format."""
