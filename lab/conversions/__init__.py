"""What conversions would gain if they were adapted live: `told` (when what is known), `trial` (the ways), `command`."""
