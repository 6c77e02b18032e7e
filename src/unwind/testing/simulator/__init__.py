"""A seeded simulator of the whole engine: real loop, sweeper, actions and participants on virtual time, under faults.

`python -m unwind.testing.simulator COUNT [--first SEED] [--workers N]` runs schedules; `… --trace SEED` prints one.
"""
