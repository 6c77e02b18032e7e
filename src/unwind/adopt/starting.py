"""Starting a saga inside of your own PostgreSQL transaction, on asyncpg or on SQLAlchemy with asyncpg."""

from unwind.stores.postgres.start import start

__all__ = ["start"]
