"""How an order is carried out: the commands, the four steps, the saga."""
