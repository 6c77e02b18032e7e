"""Brings a database to a version of its schema: numbered SQL files of each dialect, carried out by Alembic."""
