"""The barrier inside of transactions that a service opens itself: `answer_within`, one module for each driver.

For services that have their own way to consume messages and to write to their database, and keep it.
"""
