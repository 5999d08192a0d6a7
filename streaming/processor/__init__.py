"""The stream processor: joins impressions with their late feedback and fine-tunes the kernels."""
