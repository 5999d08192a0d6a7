"""The operator's hand: what was published, what is ordered, and who ordered it. `local/control/` is its command line.

`history.py` reads kernels that were published, `orders.py` gives orders and writes the audit, `weights.py` says what a
kernel's weights mean.
"""
