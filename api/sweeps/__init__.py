"""/sweeps: many jobs of one plan."""
