"""Compares two configs: the config of a run with a later one, or the configs of two processes."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnn_jax.config import schema
from cnn_jax.config.fields import ADDED, format_value
from cnn_jax.errors import UserError

# Folders may differ between machines, and `feed` may differ with a device's memory; none of these
# changes what a run computes.
_DATA_PATHS = (
    *("dataset.data_dir", "dataset.manual_dir"),
    # The digest of the files is compared instead.
    *("dataset.path", "dataset.test_path", "dataset.label_names"),
)
_WITHOUT_EFFECT = (*_DATA_PATHS, "dataset.feed")


def describe_changes(config: ConfigDict, before: dict[str, Any]) -> list[str]:
    """Lists the changes that prevent a config from resuming the run of an earlier config.

    Changes without effect on the results are left out: the folders of the data, the feed, and a
    larger `num_epochs` with `schedule=constant`.

    Args:
      config: config checked by `schema.check`.
      before: the earlier config, as parsed from JSON.

    Returns:
      One text per change, such as `seed was 1 and is 2`, sorted by key; empty if the config can
      resume the run.
    """
    # Through JSON tuples become lists, as in `before`.
    added, after = json.loads(json.dumps([dict(ADDED), config.to_dict()]))
    old, new = {**added, **dict(schema.flatten(before))}, dict(schema.flatten(after))
    changes = []
    for key in sorted(old.keys() | new.keys()):
        old_value, new_value = old.get(key, "not set"), new.get(key, "not set")
        if old_value == new_value or key in _WITHOUT_EFFECT:
            continue
        formatted = format_value(old_value), format_value(new_value)
        change = f"{key} was {formatted[0]} and is {formatted[1]}"
        if key == "num_epochs" and isinstance(old_value, int) and old_value < new_value:
            if config.schedule == "constant":
                continue
            change += f", which schedule={config.schedule} depends on"
        changes.append(change)
    return changes


def cluster_fingerprint(config: ConfigDict) -> str:
    """Returns the part of a config that must be equal in all processes of a run, as JSON.

    Only the folders of the data may differ between processes.
    """
    shared = {k: v for k, v in schema.flatten(config.to_dict()) if k not in _DATA_PATHS}
    return json.dumps(shared, sort_keys=True)


def check_same_model(config: ConfigDict, workdir: Path, before: ConfigDict) -> None:
    """Checks that a config's `model` computes the same function as the model of a run.

    Comparing the shapes of the parameters is not enough: models with different activations have
    equal shapes. `model.init_stddev` may differ, because it only affects initial parameters.

    Args:
      config: config whose `model` is compared.
      workdir: folder of the run, for the message.
      before: config of the run.

    Raises:
      UserError: if the models differ.
    """
    compared = before.copy_and_resolve_references()
    compared.model = config.model.copy_and_resolve_references()
    compared.model.init_stddev = before.model.init_stddev
    if changes := describe_changes(compared, json.loads(before.to_json())):
        raise UserError(
            f"--config is invalid for workdir {workdir}: its model must equal the model of that "
            f"run ({'; '.join(changes)}). Use the values of the run, or omit --config."
        )
