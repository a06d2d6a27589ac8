"""Backing a platform up while it runs, and bringing it back: `asym backup DIR`, `asym restore DIR`.

writing.py     the backup: one snapshot of the database, and the files that its rows speak of
restoring.py   the way back into an empty home
manifest.py    what a backup says of itself: versions, and the hash of every file
copying.py     one file copied while it is hashed
pinning.py     hard links that keep files there while they are copied, whatever retention deletes meanwhile
dumps.py       pg_dump and pg_restore: which ones, and how they are called
reaching.py    the platform's database: the running one, or the embedded server started for this

docs/backup.md is the operator's side of it.
"""
