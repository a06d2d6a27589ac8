"""Other trainers that run the same job spec. Asym's own is `trainer.loop`."""
