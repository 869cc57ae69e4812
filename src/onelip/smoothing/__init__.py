"""Randomized smoothing for dense prediction: the statistical baseline of the certificates."""
