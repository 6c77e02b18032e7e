"""Buses: each module one implementation of the port `Bus`."""
