"""How a config differs from the one that a run was begun with."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnn_jax.config import schema
from cnn_jax.errors import UserError

# Where the data lie is no part of what is computed: another machine has them elsewhere. Nor is how
# they come to the devices: it may have more memory.
_PLACES = ("dataset.data_dir", "dataset.manual_dir")
_NOT_COMPUTED = (*_PLACES, "dataset.feed")


def describe_changes(config: ConfigDict, before: dict[str, Any]) -> list[str]:
    """What hinders a config to go on with the run of another one: each difference, old and new.

    Args:
      config: as checked by `config.check`.
      before: the other one, as it was written as JSON.
    """
    after = json.loads(json.dumps(config.to_dict()))  # Where tuples are lists, as in `before`.
    younger = dict(schema.leaves(schema.YOUNGER))
    old = {**younger, **dict(schema.leaves(before))}
    new = dict(schema.leaves(after))
    changes = []
    for key in sorted(old.keys() | new.keys()):
        was, is_now = old.get(key, "not set"), new.get(key, "not set")
        if was == is_now or key in _NOT_COMPUTED:
            continue
        text = f"{key} was {schema.show(was)} and is {schema.show(is_now)}"
        if key == "num_epochs" and isinstance(was, int) and was < is_now:
            if config.schedule == "constant":
                continue
            text += f", which schedule={config.schedule} depends on"
        changes.append(text)
    return changes


def cluster_fingerprint(config: ConfigDict) -> str:
    """What all processes of a run must have in common of a config, as JSON."""
    found = {k: v for k, v in schema.leaves(config.to_dict()) if k not in _PLACES}
    return json.dumps(found, sort_keys=True)


def check_same_model(config: ConfigDict, workdir: Path, before: ConfigDict) -> None:
    """Two networks may have the same arrays and still compute something else.

    Raises:
      UserError: when a config's `model` computes something else than the run of a workdir.
    """
    same = before.copy_and_resolve_references()
    same.model = config.model.copy_and_resolve_references()
    same.model.init_stddev = before.model.init_stddev  # Matters only where a training begins.
    if changes := describe_changes(same, json.loads(before.to_json())):
        raise UserError(
            f"workdir {workdir} holds another network: {'; '.join(changes)}: allowed are the same "
            "values. Use those values, or leave --config out to use those of the run."
        )
