"""The three services that carry out an order, each with a database of its own."""
