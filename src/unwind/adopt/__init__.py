"""What a service does inside of transactions that it opens itself: the barrier's `answer_within`, and `starting.start`.

For services that have their own way to consume messages and to write to their database, and keep it. There is one
`answer_within` for each driver.
"""
