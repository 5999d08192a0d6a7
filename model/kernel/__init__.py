"""The kernel: a small network in front of the frozen backbone's trunk that learns from the stream for ever.

It follows IAK (Pre-train and Fine-tune: Recommenders as Large Models, arXiv 2501.14268). docs/model.md says what of it
is known, what is inferred and what is ours. The files in reading order, each needing only those before it:

 1. `batch`: what a kernel learns from.
 2. `bank`, `bottleneck`: linear layers for many domains at once; the Gaussian of the bottleneck.
 3. `core`: encoder (compression) and decoder (matching), the part that follows the paper.
 4. `path_features`: what the linear path beside the core sees.
 5. `kernel`: all of it as one module, and `live_logit`, the one function that scorer and learner share.
 6. `closed_path`, `trust`, `arms`: the linear path learned in closed form, and the mixture of arms.
 7. `objective`, `optimiser`: the loss of the core, and the step that lowers it.
 8. `new_domains`, `rehearsal`: parameters of a domain that is new; which past examples are learned again.
 9. `learner`: test-then-train, where all of the above comes together. To see how a kernel learns, read `Learner.learn`.
10. `compatibility`, `snapshot`, `record`: what a kernel depends on, a learner as bytes, a published kernel as bytes.
"""
