"""The join: matches impressions with late feedback in event time and decides labels. No broker, clock or thread."""
