"""Whether interest drifts, where, since when, and whether the kernel handles it (docs/drift.md).

1. `reference`: what inputs and scores were like before the kernel began.
2. `signs`: what a stratum shows; what is known of labels and kernel from elsewhere.
3. `verdict`: what is said about a stratum, and what a single detector says.
4. `monitor`: the whole, in order.
"""
