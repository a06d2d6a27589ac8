"""The pages: each module has a `show` that app.py calls. What is decided without Streamlit lives a level up."""
