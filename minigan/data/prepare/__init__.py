"""Pictures of any size -> pixels of one shape, in memory or in a memory-mapped file."""
