"""The gate decides whether labels are learned from and whether kernels are published (docs/gate.md).

1. `scored_examples`: the labelled examples that the gate reads, and the strata that it watches separately.
2. `shares`: limits how much one user or item may teach, by what each has brought (`decayed_mass`).
3. `labels`: tests whether labels are as expected.
4. `quarantine`: sets requests with wrong labels aside, and decides for how long.
5. `evidence`: the anytime-valid test of one arm against another.
6. `harm`: which arm is worse, and what is undone.
7. `soundness`, `feedback`: unsound numbers and feedback faults that hold publication.
8. `gate`: all parts in order; `guarded`: a learner behind its gate.
"""
