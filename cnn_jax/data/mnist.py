"""Downloads, verifies and prepares MNIST, Fashion-MNIST and KMNIST with TFDS, without TensorFlow.

TFDS's builders unpack and encode the images with TensorFlow. The subclasses in this module inherit
the version, features, URLs, file names and checksums, but unpack with Python's gzip and encode PNG
files with Pillow. They write the same folder as TFDS.
"""

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnn_jax.data.originals import FILE_NAMES, ORIGINALS, Arrays, find_originals, read_originals
from cnn_jax.data.prepared import BESIDE, problem
from cnn_jax.errors import UserError, short_reason

_PROBE_SECONDS = 6.0


def prepare(name: str, data_dir: Path, manual_dir: Path | None, show_progress: bool) -> None:
    """Writes `data_dir/NAME/VERSION` in the array_record format, from the four original files.

    TFDS writes into a folder with a temporary name and renames it when it is complete. So an
    interrupted preparation leaves no folder that counts as prepared, and if two processes prepare
    the same data set, the folder of the first remains.

    Args:
      name: a key of `ORIGINALS`.
      data_dir: TFDS's data folder. If the folder of this version is there, it is one that cannot be
        used: it is left alone, and the new one is written below `data_dir/array_record`.
      manual_dir: folder with the four files; None: download them to `data_dir/downloads`, with
        TFDS's URLs and checksums.
      show_progress: whether TFDS draws progress bars on standard error.

    Raises:
      UserError: if the files are not the original ones or cannot be downloaded, or `data_dir`
        cannot be written.
    """
    # Verifies the user's files before TFDS creates a folder.
    arrays = read_originals(name, find_originals(manual_dir)) if manual_dir else None
    version = str(_tfds_class(name).VERSION)
    downloads = data_dir / "downloads"
    if _is_unusable(data_dir / name / version):
        data_dir = data_dir / BESIDE
    folder = data_dir / name / version
    if _is_unusable(folder):
        raise UserError(f"rename {folder}, and {name} is prepared again")
    if os.path.lexists(folder):
        return  # Another process has prepared it in the meantime.
    builder = _builder(name, data_dir, arrays)
    if arrays is None:
        _check_server(builder.URL, name)
    import tensorflow_datasets as tfds

    _show_progress(f"Preparing {name} in {data_dir}", show_progress)
    try:
        with _translate_errors(name, builder.URL, data_dir):
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except UserError:
        if problem(folder):
            raise  # Else another process has prepared it in the meantime.


def _is_unusable(folder: Path) -> bool:
    """Returns whether there is a folder, or something else of its name, that cannot be used."""
    return os.path.lexists(folder) and problem(folder) is not None


def download(name: str, data_dir: Path, show_progress: bool) -> dict[str, Path]:
    """Downloads the four original files to `data_dir/downloads`, unless they are there.

    Args:
      name: a key of `ORIGINALS`.
      data_dir: TFDS's data folder.
      show_progress: whether TFDS draws progress bars on standard error.

    Returns:
      Path of each of `FILE_NAMES`, verified with TFDS's checksums.

    Raises:
      UserError: if they cannot be downloaded, or `data_dir` cannot be written.
    """
    import tensorflow_datasets as tfds

    original = _tfds_class(name)
    _check_server(original.URL, name)
    _show_progress(f"Downloading {name} to {data_dir}", show_progress)
    with _translate_errors(name, original.URL, data_dir):
        manager = tfds.download.DownloadManager(
            download_dir=data_dir / "downloads", url_infos=original.url_infos, dataset_name=name
        )
        return manager.download(_urls(original.URL))


def _tfds_class(name: str) -> Any:
    """Returns the class of TFDS that would prepare a data set with TensorFlow."""
    import tensorflow_datasets as tfds

    return getattr(tfds.image_classification, ORIGINALS[name].builder)


def _show_progress(what: str, show_progress: bool) -> None:
    """Prints what is going to be done, or disables the progress bars of TFDS."""
    import tensorflow_datasets as tfds

    if show_progress:
        print(what, file=sys.stderr)
    else:
        tfds.disable_progress_bar()


def _urls(url: str) -> dict[str, str]:
    """Returns the address of each of `FILE_NAMES`."""
    return {name: f"{url}{name}.gz" for names in FILE_NAMES.values() for name in names}


@contextlib.contextmanager
def _translate_errors(name: str, url: str, data_dir: Path) -> Iterator[None]:
    """Turns errors of the network and of the disk into UserErrors, and hides the lines of TFDS."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise _download_error(name, url, str(error)) from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename is None and error.errno is None:
            raise _download_error(name, url, str(error)) from error  # The network, not the disk.
        # The writer of array_record raises a RuntimeError of many lines.
        failed = re.search(r"write\(\) failed: ([^;]+)", str(error))
        reason = failed[1] if failed else short_reason(error)
        raise UserError(
            f"cannot prepare {name} in {data_dir} ({reason}): "
            "dataset.data_dir must be writable and have 100 MB of free space. Free space, or "
            "choose another dataset.data_dir."
        ) from error


def _builder(name: str, data_dir: Path, arrays: dict[str, Arrays] | None) -> Any:
    """Returns a TFDS builder that needs no TensorFlow.

    Args:
      name: a key of `ORIGINALS`.
      data_dir: TFDS's data folder.
      arrays: images and labels of each split; None: the builder downloads and verifies the files.
    """
    parent: Any = _tfds_class(name)

    class Builder(parent, skip_registration=True):  # type: ignore[call-arg, misc]
        """TFDS's builder, but with reading and encoding in plain Python."""

        # TFDS saves the module of the builder; with the parent's, any TFDS can read the folder.
        __module__ = parent.__module__

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            source = arrays
            if source is None:
                source = read_originals(name, dl_manager.download(_urls(self.URL)))
            return {split: self._generate_examples(*source[split]) for split in source}

        def _generate_examples(
            self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                png.seek(0)
                yield index, {"image": png, "label": int(label)}

    Builder.name = name
    return Builder(data_dir=data_dir, file_format="array_record")


def _check_server(url: str, name: str) -> None:
    """Checks that the server answers, because TFDS would retry for more than three minutes.

    Args:
      url: URL of the folder with the four files.
      name: name of the data set, for the message.

    Raises:
      UserError: if the server does not answer within a few seconds, or has no such file; or if the
        certificates are missing with which it is to be verified.
    """
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        bundle = os.environ.get(variable)
        if bundle and not Path(bundle).exists():
            raise UserError(
                f"{variable}={bundle} is invalid: it must be a file with the certificates that "
                "downloads are verified with. Change or unset it."
            )
    import requests  # TFDS depends on it and downloads with it; it honours proxies.

    answered = threading.Event()
    problem = ["no answer"]

    def probe() -> None:
        try:
            file = f"{url}{FILE_NAMES['train'][0]}.gz"
            response = requests.head(file, timeout=_PROBE_SECONDS, allow_redirects=True)
            if response.ok:
                answered.set()
            problem[0] = f"HTTP status {response.status_code}"
        except requests.RequestException as error:
            problem[0] = type(error).__name__

    # In a thread, because the lookup of a host name has no timeout.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if not answered.is_set():
        raise _download_error(name, url, problem[0])


def _download_error(name: str, url: str, problem: str) -> UserError:
    return UserError(
        f"cannot download {name} from {url} ({problem}): the original files must be available "
        "there. Connect to the network, or put the four files into a folder and use "
        "--config.dataset.manual_dir=FOLDER, or set TFDS_DATA_DIR to a folder in which TFDS has "
        "prepared it, or use the bundled digits: --config=configs/digits.py."
    )
