"""Public instruments: what Asym costs, measured beside what it is compared with. README.md says how and how far.

    python -m bench step       the same GRPO step here and in TRL, alternating: time, tokens, memory
    python -m bench profile    where our own step's time goes
    python -m bench api        metrics in and out, jobs, watchers; MLflow's tracking server beside it
    python -m bench machine    what the machine can do: matrix products and memory bandwidth

`bench` may import `trainer`; nothing imports `bench`.
"""
