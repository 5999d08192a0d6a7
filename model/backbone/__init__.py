"""The foundation model: trained once, then frozen."""
