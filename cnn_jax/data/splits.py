"""Parses the splits of a data set, in TFDS's syntax."""

from collections.abc import Mapping, Sequence

from cnn_jax.data.types import Part
from cnn_jax.errors import UserError


def parse_split(key: str, spec: str, lengths: Mapping[str, Sequence[int]]) -> tuple[Part, ...]:
    """Parses a split in TFDS's syntax.

    Args:
      key: config key of the split, for the message.
      spec: the split in TFDS's syntax, such as `train[:80%]+test`.
      lengths: number of examples in each file of each split.

    Returns:
      The parts that make up the split, each with at least one example.

    Raises:
      UserError: if the syntax is invalid, or the split is unknown or empty.
    """
    parts: tuple[Part, ...]
    if spec in lengths:  # The common case, which needs no import of TFDS.
        parts = (Part(spec, 0, sum(lengths[spec])),)
    else:
        import tensorflow_datasets as tfds

        infos = {
            name: tfds.core.SplitInfo(name=name, shard_lengths=list(shards), num_bytes=0)
            for name, shards in lengths.items()
        }
        try:
            instructions = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
            parts = tuple(
                Part(i.splitname, i.from_ or 0, sum(lengths[i.splitname]) if i.to is None else i.to)
                for i in instructions
            )
        except (
            *(ValueError, AssertionError, KeyError, NotImplementedError),
            RecursionError,  # Raised for thousands of parts.
        ) as error:
            raise UserError(
                f"{key}={spec} is invalid: it must be one of {', '.join(lengths)}, or slices of "
                f"them in TFDS's syntax, such as {next(iter(lengths))}[:80%]. Change {key}."
            ) from error
    parts = tuple(part for part in parts if part.start < part.stop)
    if not parts:
        raise UserError(
            f"{key}={spec} is invalid: it must contain at least one example. Change {key}."
        )
    return parts
