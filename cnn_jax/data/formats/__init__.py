"""The formats of people's own files: each module finds and opens one of them."""
