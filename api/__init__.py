"""The HTTP interface of Asym (FastAPI): routes, auth, errors, streaming. `python -m api` serves it.

One folder per domain, each with its routes and the shapes it answers with; every query lives in `store`. The API trains
nothing and imports no torch: a job is a row, and the doorbell tells the workers that there is one.
"""
