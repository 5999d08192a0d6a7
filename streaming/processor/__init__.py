"""The stream processor: joins impressions with late feedback and teaches the kernels."""
