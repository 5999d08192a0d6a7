"""The kernel: compresses what the frozen backbone knows, and matches it with what the stream teaches, in closed form.

It follows IAK (Pre-train and Fine-tune: Recommenders as Large Models, arXiv 2501.14268). docs/model.md explains it on
one page and says what is known, what is inferred and what is ours. The files in reading order, each needing only those
before it:

 1. `compression`: phase 1, the part of the representation that says who asks, where and when.
 2. `descriptor`: what is shown, as the matching sees it.
 3. `features`: from one example to the numbers that the kernel is linear in; the logit.
 4. `start`: all that pretraining tells a kernel, kept with the backbone.
 5. `kernel`: the kernel as it is served.
 6. `batch`: what a kernel learns from.
 7. `posterior`: phase 2, what the stream teaches, as a Gaussian posterior over the weights.
 8. `trust`: which of the arms is served.
 9. `learner`: test-then-train, where all of the above comes together. To see how a kernel learns, read `Learner.learn`.
10. `compatibility`, `snapshot`, `record`: what a kernel depends on, a learner as bytes, a published kernel as bytes.
"""
