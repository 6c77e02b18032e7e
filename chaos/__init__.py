"""Everything at once, killed again and again: `python -m chaos`."""
