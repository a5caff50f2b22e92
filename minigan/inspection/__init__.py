"""Looking inside of a run: walks through z, sums of z, and what the layers of both nets have learnt, as pictures.

commands.py      the command lines
walks.py         interpolation between z
arithmetic.py    thick 7 - thin 7 + thin 3;  groups.py: which samples those are
maps.py          filters, and activations layer by layer
features.py      what excites a unit of D, and by which pixels;  guided.py: the backward pass that tells
opened.py        a run's nets and images, as they were saved
layerwise.py     a net called layer by layer
page.py          pictures with words
"""
