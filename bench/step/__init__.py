"""One GRPO step, here and in TRL, on the same machine at the same time.

workload.py   what a step is: everything that both sides must do alike
problems.py   the prompts; reward.py the reward; models.py the model folders
protocol.py   how the driver and a side talk: one line asks for a step, one JSON line answers
asym_side.py  our step, as a process; trl_side.py TRL's, in a virtual environment of its own
driver.py     starts both, alternates, checks that they did the same work, prints and writes the result
results.py    medians and ratios; machine_state.py what the machine is and who else uses it
trl_venv.py   makes that virtual environment

trl_side.py and what it imports (workload, protocol, reward, memory, weights) need neither `trainer` nor its packages.
"""
