"""What outlives a process: settings, the database's tables and queries, leases, job states, artifact files.

Every SQL statement of the platform is in this package. Repositories are modules of functions that take the Session
first and never commit; `store.database.Database.transaction` is the one place that does. Knows `trainer.spec` and
nothing else of Asym.
"""
