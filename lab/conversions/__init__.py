"""Whether adapting conversions live helps: `known_conversions` (what is known when), `trial` (the ways), `command`."""
