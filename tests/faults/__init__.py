"""Sweeps that are disturbed on purpose, and compared with an undisturbed one.

`schedules.py` says what a seed does, `strikes.py` does it within a process of a sweep, `processes.py` starts
and watches these processes, `checks.py` compares what they leave, and `harness.py` joins them. As a command:
`python -m tests.faults --seeds 0:200`.
"""
