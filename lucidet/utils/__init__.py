"""Helpers that know nothing of detection; import them from their modules."""
