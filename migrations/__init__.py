"""The database's schema, version by version (Alembic). `python -m store.migrate` brings a database up to date.

A new version: change store/models/, then `python -m store.migrate --draft "what changes"` against a database that is
up to date, and read what Alembic wrote.
"""
