"""The pure core: no clock, no I/O, no randomness, no logging. Time and jitter arrive as data."""
