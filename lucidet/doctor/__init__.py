"""Checks of dataset, config and weights together, before a training.

Read in this order: `findings` (what a check returns), `rules` (every code), `material` (what the
checks look at), one file for each group of checks, `run` (all of them), and what shows the result.
"""
