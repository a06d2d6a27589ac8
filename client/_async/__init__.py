"""The SDK as it is written, for asyncio. `client/_sync` is generated from it: `./dev sdk` after every change here."""
