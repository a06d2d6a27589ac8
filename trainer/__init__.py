"""AsymGRPO training: a job spec in, rollouts, rewards, advantages and updates, checkpoints and events out.

Knows no service: no database, no broker, no HTTP. `python -m trainer spec.yaml` is the whole of it.
Other parts of Asym may import `trainer.spec` only, which imports no torch.
"""
