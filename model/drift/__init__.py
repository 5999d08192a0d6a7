"""The drift monitor: whether interest drifts, where, since when, and whether the kernel handles it (docs/drift.md).

1. `reference`: distributions of inputs and scores in the pretraining window.
2. `signs`: the measures of a stratum, and what gate and join report about labels and kernel.
3. `verdict`: the monitor's verdict on a stratum, and alarms of single detectors.
4. `monitor`: all parts together, in order.
"""
