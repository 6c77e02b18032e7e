"""Shipped to users: conformance suites for adapters, a differential test, given/when/then, the simulator."""
