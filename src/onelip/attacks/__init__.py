"""Attacks: perturbations within a norm that make a prediction as bad as they can."""
