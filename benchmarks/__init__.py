"""How fast minigan is, and how much memory it takes, side by side with others. Start at README.md."""
