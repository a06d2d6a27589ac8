# Generated from client/_async/__init__.py by `./dev sdk`; edit it there.
"""The SDK without asyncio, generated: see client/_async."""
