"""What makes one machine a whole system: a broker, a replay, the demo and its report."""
