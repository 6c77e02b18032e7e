"""Inside of transactions that a service opens itself: `answer_within`, the barrier, one module for each driver; and
`starting.start`, which starts a saga there.

For services that have their own way to consume messages and to write to their database, and keep it.
"""
