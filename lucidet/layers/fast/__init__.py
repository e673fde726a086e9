"""Accelerated forms of plain operations.

Each file offers one function and, beside it, the plain form that computes the same numbers: tests
compare the two, and a reader can read the plain one only.
"""
