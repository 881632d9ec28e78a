"""Decodes any picture file to an upright RGB image of bounded size."""

import contextlib
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


class PhotoError(Exception):
    """A file does not serve as a picture: one short reason, to follow the file's name."""


_DECODED = 1200  # Pixels a side: a digit that fills a tenth of them still has plenty.


def read_rgb(path: Path) -> Image.Image:
    """The picture in a file: upright RGB of at most `_DECODED` pixels a side."""
    try:
        status = path.stat()  # Opening a FIFO would wait for its writer.
        if stat.S_ISDIR(status.st_mode):
            raise PhotoError("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("is no regular file")
        if status.st_size == 0:
            raise PhotoError("is empty")
        # For EPS Pillow starts another program on what the file says, whatever the file's name.
        with Image.open(path, formats=[kind for kind in Image.OPEN if kind != "EPS"]) as image:
            return _upright_rgb(image)
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError("holds no picture that Pillow knows; save it as JPEG or PNG") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise PhotoError(f"is too large: allowed are {most:,} pixels, in memory") from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble over.
        if isinstance(error, OSError) and error.strerror:
            raise PhotoError(f"cannot be read: {error.strerror}") from error
        if "truncated" in str(error).lower():
            raise PhotoError("is truncated") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"is damaged: {reason}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.draft(None, (_DECODED, _DECODED))  # JPEG decodes to a half, a quarter, an eighth at once.
    if image.mode.startswith(("I", "F")):
        plain = _stretched(image)
    elif image.has_transparency_data:
        plain = _on_ground(image.convert("RGBA"))
    else:
        plain = image.convert("RGB")
    plain.thumbnail((_DECODED, _DECODED), Image.Resampling.BOX, reducing_gap=1.0)
    with contextlib.suppress(Exception):  # Damaged metadata: the picture is there all the same.
        plain = ImageOps.exif_transpose(plain)
    return plain


def _stretched(image: Image.Image) -> Image.Image:
    """Brings 16 or 32 bits to 8: of the range in use, as 12 bits of a scanner are few of 16."""
    values = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.min(values), np.max(values)
    pixels_u8 = np.rint((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    return Image.fromarray(pixels_u8).convert("RGB")


def _on_ground(image: Image.Image) -> Image.Image:
    """Puts an RGBA picture on white or black, whichever its opaque part stands out from."""
    light = np.asarray(image.convert("L"), np.float32)
    opaque = np.asarray(image.getchannel("A"), np.float32)
    is_light = np.sum(light * opaque) > 127.5 * np.sum(opaque)
    ground = Image.new("RGBA", image.size, "black" if is_light else "white")
    return Image.alpha_composite(ground, image).convert("RGB")
