"""What networks have learned, as images.

interpolation.py     what lies between two z
arithmetic.py        thick 7 - thin 7 + thin 3;  sample_groups.py: which samples those are
maps.py              filters, and activations layer by layer
features.py          what excites a unit of D;  guided_backprop.py: which pixels do
open_run.py          the networks and images of a run, and a network layer by layer
page_layout.py       images with words
"""
