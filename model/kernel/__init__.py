"""The kernel: compresses what the frozen backbone knows, and matches it with what the stream teaches, in closed form.

It follows IAK (Pre-train and Fine-tune: Recommenders as Large Models, arXiv 2501.14268). docs/model.md explains it on
one page and separates what the paper says from what we inferred and what is our own. The files in reading order, each
needing only those before it:

 1. `compression`: phase 1, the part of the representation that tells users and domains apart.
 2. `descriptor`: the vector that describes the shown item in the matching.
 3. `features`: the feature vector of an example, in which the kernel is linear, and the logit.
 4. `start`: everything that a kernel takes over from pretraining, stored with the backbone.
 5. `kernel`: the kernel as it is served.
 6. `batch`: the micro-batches that a kernel learns from.
 7. `posterior`: phase 2, a Gaussian posterior over the weights, learned from the stream.
 8. `trust`: the weights with which the arms are mixed for serving.
 9. `learner`: test-then-train, which uses all of the above. To see how a kernel learns, read `Learner.learn`.
10. `compatibility`, `snapshot`, `record`: what a kernel depends on, a learner as bytes, a published kernel as bytes.
"""
