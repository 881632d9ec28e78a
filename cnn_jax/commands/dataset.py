"""The test set that a trained model is used on: whether it fits the model, and its examples."""

from cnn_jax import data
from cnn_jax.config import schema
from cnn_jax.errors import UserError
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.io.console import Console
from cnn_jax.wording import pluralize

_MAX_NAMED = 3  # Classes that the warning names.


def load_test_set(trained: TrainedModel, console: Console) -> tuple[data.Info, data.Examples]:
    """Loads the test set of a model's config, and warns where its classes are not the model's.

    Args:
      trained: model whose config may have another data set than that of the training.
      console: receives the warning and a line on files, and shows the progress of a download.

    Returns:
      The description of the data set, and its test examples.

    Raises:
      UserError: when there is no such data set, or it has another image shape or number of classes
        than the model.
    """
    show_progress = console.err.isatty()
    info = schema.describe_data(trained.config, show_progress)
    _check_fits(trained, info)
    _warn_of_other_classes(trained, info, console)
    if info.source:
        console.line(f"Data: {info.source}")
    return info, data.load_test(**trained.config.dataset, show_progress=show_progress)


def _check_fits(trained: TrainedModel, info: data.Info) -> None:
    num_classes = len(trained.class_names)
    if info.image_shape == trained.image_shape and info.num_classes == num_classes:
        return
    dataset_shape, model_shape = (
        "x".join(map(str, shape)) for shape in (info.image_shape, trained.image_shape)
    )
    raise UserError(
        f"{schema.format_data_key(trained.config)} has {pluralize(info.num_classes, 'class')} of "
        f"{dataset_shape} images: it must have {pluralize(num_classes, 'class')} of {model_shape} "
        f"images, like checkpoint {trained.step} of {trained.workdir}. Use another --config or "
        "--workdir."
    )


def _warn_of_other_classes(trained: TrainedModel, info: data.Info, console: Console) -> None:
    pairs = enumerate(zip(info.class_names, trained.class_names, strict=True))
    differing = [f"class {k} is {new}, not {old}" for k, (new, old) in pairs if new != old]
    if differing:
        num_unnamed = len(differing) - _MAX_NAMED
        more = f", and {num_unnamed} more" if num_unnamed > 0 else ""
        console.warn(
            f"the classes of {schema.format_data_key(trained.config)} differ from those of the "
            f"model ({', '.join(differing[:_MAX_NAMED])}{more}): a prediction counts as right "
            "where the numbers of the classes agree."
        )
