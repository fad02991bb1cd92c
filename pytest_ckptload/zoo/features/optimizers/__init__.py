"""Optimizers: how they are made, and what a run did before it saved them."""
