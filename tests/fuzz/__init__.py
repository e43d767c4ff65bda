"""Damaged and hostile files for every reader: what they are, how they are read, how often."""
