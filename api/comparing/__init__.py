"""/compare/...: several jobs side by side, beside their curves (those are api.metrics's)."""
