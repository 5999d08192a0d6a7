"""What reading the query gains, on requests that carry one and on those that do not."""
