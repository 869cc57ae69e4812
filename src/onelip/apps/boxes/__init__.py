"""The commands over a data set for models that detect objects: certify, attack, compare, and their pictures."""
