"""Pictures for people: each module draws one kind, as a matplotlib figure that it returns."""
