"""What an order is, whoever carries it out."""
