"""How fast minigan is, and in how much memory, side by side with others. Start at README.md."""
