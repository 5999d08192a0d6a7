"""A whole system on one machine: a broker, a replay, the demo and its report."""
