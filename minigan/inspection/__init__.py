"""What a network has learned: walks and sums of z, filters, activations, features."""
