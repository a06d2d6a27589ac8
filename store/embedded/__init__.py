"""Postgres and Valkey as child processes of `python -m store.embedded`, with their data under one home folder.

__main__.py    the command: lock the home, start both, print their addresses, stop both at the end
supervise.py   keeps both running: one that dies is started again
server.py      what both have in common: launched, asked, stopped
postgres.py    how Postgres is set up, started, asked and stopped
valkey.py      the same for Valkey
rundir.py      where their unix sockets are, out of reach of other users
launch.py      what a child does before it becomes the server: drop privileges, be tied to its parent's life
"""
