"""The kernel of IAK (Pre-train and Fine-tune: Recommenders as Large Models, arXiv 2501.14268), to compare with.

An encoder compresses the frozen representation, a decoder matches it to the domain; both learn by gradient. The files
in reading order: `settings`, `bank` and `bottleneck`, `core` (encoder and decoder), `kernel` (the core before the
frozen trunk), `objective`, `batches` (batch-aware training), `adapter`. Why it is no part of what is served:
docs/decisions/0077.
"""
