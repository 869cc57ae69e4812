"""The commands with classifiers: one class an image."""
