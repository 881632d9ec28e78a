"""The loop over epochs: feeds, chunks, resuming, stopping."""
