"""Process groups: several processes that compute one step together. group.py is the interface."""
