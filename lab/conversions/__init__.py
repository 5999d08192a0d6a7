"""Whether adapting conversions live helps: `known_conversions` (when what is known), `trial` (methods), `command`."""
