"""The gate: labels are believed, and kernels published, only as long as nothing speaks against them (docs/gate.md).

1. `seen`: what the gate sees of a micro-batch, and what it watches apart.
2. `shares`: nobody teaches more than a share.
3. `labels`: whether labels are what they should be.
4. `quarantine`: what is set aside, and for how long.
5. `evidence`: the anytime-valid test.
6. `harm`: which arm is worse, and what is undone.
7. `soundness`, `feedback`: numbers and paths that hold publication.
8. `gate`: all of it in order; `guarded`: a learner behind it.
"""
