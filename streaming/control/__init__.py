"""Operator control: history of published kernels, orders, and audit. `local/control/` is its command line.

`history.py` reads published kernels, `orders.py` gives orders and writes the audit, `weights.py` names a kernel's
weights.
"""
