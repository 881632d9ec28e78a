"""Words of messages, tables and figures."""


def pluralize(count: int, noun: str) -> str:
    """Returns a count with its noun: `1 class`, `2 classes`, `10,000 test images`.

    Args:
      count: number of things, at least 0.
      noun: what they are, in the singular. Its plural must end with s, or with es after an s.
    """
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"
