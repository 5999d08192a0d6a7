"""The lab answers whether adaptation helps: streams, baseline adapters and comparisons. None of it runs in
production."""
