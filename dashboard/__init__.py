"""The dashboard: Streamlit pages over the API, which they reach through `client.Asym` only. `python -m dashboard`."""
