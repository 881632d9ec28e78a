"""Draws paper of eight kinds, empty or with digits written on it, as people's cameras see it."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Floats = npt.NDArray[np.floating]
Random = np.random.Generator

KINDS = ("blank", "dark", "ruled", "squared", "dotted", "shadowed", "textured", "uneven")


def draw_paper(kind: str, size: tuple[int, int], random: Random) -> Floats:
    """Draws empty paper.

    Args:
      kind: one of `KINDS`.
      size: (height, width) in pixels.
      random: decides the colour, the lines, the light.

    Returns:
      float32 [H, W, 3], RGB, 0..255.
    """
    colour = random.uniform(215, 255) - random.uniform(0, 25, 3)
    if kind == "dark":
        colour = random.uniform(20, 70, 3)
    paper: Floats = np.broadcast_to(colour, (*size, 3)).astype(np.float32)
    if kind in ("ruled", "squared", "dotted"):
        tint = 1 - random.uniform(0, 0.6, 3) * random.integers(0, 2)
        lines = _lines(kind, size, random)[..., np.newaxis]
        paper = paper * (1 - lines * random.uniform(0.15, 0.6) * tint)
    if kind == "shadowed":
        paper = paper * (1 - random.uniform(0.2, 0.6) * _shadow(size, random)[..., np.newaxis])
    if kind == "textured":
        for grain in (1, 3, 10, 40):
            texture = _smooth_noise(size, grain * max(size) / 600, random)
            paper = paper + random.uniform(1, 7) * texture[..., np.newaxis]
    may_be_uneven = kind in ("dark", "ruled", "squared", "dotted")
    if kind == "uneven" or (may_be_uneven and random.random() < 0.5):
        x, y, vignette = random.normal(0, 0.18 if kind == "uneven" else 0.08, 3)
        rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
        light = 1 + x * columns + y * rows - abs(vignette) * (columns**2 + rows**2)
        paper = paper * np.clip(light, 0.3, 1.2)[..., np.newaxis]
    return paper.astype(np.float32)


def _lines(kind: str, size: tuple[int, int], random: Random) -> Floats:
    """Draws lines or dots, tilted or bent a little: float32 [H, W], 0..1."""
    side = max(size)
    pitch = side / random.uniform(8, 30)
    width = max(1.0, side * random.uniform(0.0015, 0.005))
    rows, columns = np.indices(size, np.float32)
    tilt = np.deg2rad(random.uniform(-4, 4)) * (random.random() < 0.6)
    bend = random.normal(0, 0.004) * side * (random.random() < 0.4)
    across = columns * np.cos(tilt) - rows * np.sin(tilt) + bend * np.sin(3 * rows / side)
    along = columns * np.sin(tilt) + rows * np.cos(tilt) + bend * np.sin(3 * columns / side)
    from_upright, from_level = (
        np.abs((place / pitch + random.random()) % 1 - 0.5) * pitch for place in (across, along)
    )
    if kind == "dotted":
        return np.clip(1.3 * width - np.hypot(from_upright, from_level) + 0.5, 0, 1)
    lines = np.clip(width / 2 - from_level + 0.5, 0, 1)
    if kind == "ruled" and random.random() < 0.3:  # A margin.
        from_upright = np.abs(across - size[1] * random.uniform(0.08, 0.2))
    elif kind == "ruled":
        return lines
    return np.maximum(lines, np.clip(width / 2 - from_upright + 0.5, 0, 1))


def _shadow(size: tuple[int, int], random: Random) -> Floats:
    """Draws a shadow with a soft edge, straight or round: float32 [H, W], 0..1."""
    height, width = size
    rows, columns = np.indices(size, np.float32)
    softness = max(size) * random.uniform(0.005, 0.1)
    row, column = height * random.uniform(0, 1), width * random.uniform(0, 1)
    if random.random() < 0.6:
        angle = random.uniform(0, 2 * np.pi)
        depth = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    else:
        radius = max(size) * random.uniform(0.15, 0.5)
        depth = radius - np.hypot((columns - column) * random.uniform(0.5, 1), rows - row)
    return 1 / (1 + np.exp(-np.clip(depth / softness, -30, 30)))


def _smooth_noise(size: tuple[int, int], sigma: float, random: Random) -> Floats:
    """Draws noise of standard deviation 1 with grains of about `sigma` pixels: float32 [H, W]."""
    step = max(1, int(sigma / 2))  # Drawn small and enlarged, as it is smooth.
    noise = random.normal(0, 1, [side // step + 2 for side in size]).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, sigma / step)
    enlarged = (noise.shape[1] * step, noise.shape[0] * step)
    picture = Image.fromarray(noise / noise.std()).resize(enlarged, Image.Resampling.BICUBIC)
    return np.asarray(picture)[: size[0], : size[1]]


def enlarge_digit(image_u8: npt.NDArray[np.uint8], height: int) -> Floats:
    """Returns the ink of an image of MNIST, uint8 [28, 28], at some height: float32, 0..1."""
    rows, columns = np.nonzero(image_u8 > 60)
    digit = image_u8[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] / 255
    width = max(1, round(digit.shape[1] * height / digit.shape[0]))
    picture = Image.fromarray(digit.astype(np.float32))
    enlarged = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(2.5 * (enlarged - 0.4) + 0.25, 0, 1)  # Sharper than the enlarged pixels.


def join_digits(digits: list[Floats], *, touch: bool, random: Random) -> Floats:
    """Puts digits side by side, some apart or nearly all touching: float32 [H, W], 0..1."""
    height = max(len(digit) for digit in digits)
    number = np.zeros((round(1.1 * height), 0), np.float32)
    end = 0
    for digit in digits:
        low, high = (-0.08, 0.03) if touch else (0.12, 0.5)
        start = max(0, end + round(height * random.uniform(low, high)))
        end = start + digit.shape[1]
        number = np.pad(number, ((0, 0), (0, max(0, end - number.shape[1]))))
        upper = int(random.uniform(0, 0.08) * height)
        part = number[upper : upper + len(digit), start:end]
        np.maximum(part, digit[: len(part)], out=part)
    return number


def write(paper: Floats, ink: Floats, *, light: bool, random: Random) -> None:
    """Writes ink, float32 [H, W], somewhere on a larger paper, lighter or darker than it."""
    free = [
        max(1, int(0.94 * side) - part) for side, part in zip(paper.shape, ink.shape, strict=False)
    ]
    row, column = (
        int(0.03 * side + random.uniform(0, 1) * room)
        for side, room in zip(paper.shape, free, strict=False)
    )
    region = paper[row : row + ink.shape[0], column : column + ink.shape[1]]
    ink = ink[: region.shape[0], : region.shape[1], np.newaxis] * random.uniform(0.5, 0.95)
    if light:
        region += (255 - region) * ink
    else:
        region *= 1 - ink * (1 - random.uniform(0, 0.5, 3) * (random.random() < 0.5))


def photograph(paper: Floats, random: Random) -> Image.Image:
    """Returns a picture of paper with a camera's noise, blur and compression, or a scanner's."""
    if random.random() < 0.7:
        paper = paper + random.normal(0, random.uniform(0.5, 5), paper.shape)
    if random.random() < 0.3:
        sigma = random.uniform(0.3, 1.2) * max(paper.shape) / 600
        paper = ndimage.gaussian_filter(paper, (sigma, sigma, 0))
    picture = Image.fromarray(np.clip(np.rint(paper), 0, 255).astype(np.uint8))
    if random.random() < 0.6:
        file = io.BytesIO()
        picture.save(file, "jpeg", quality=int(random.integers(50, 95)))
        picture = Image.open(file)
        picture.load()
    return picture


def random_size(low: int, high: int, random: Random) -> tuple[int, int]:
    """Returns a height and a width; the longer side is uniform in its logarithm."""
    longer = round(np.exp(random.uniform(np.log(low), np.log(high))))
    sides = longer, round(longer * random.uniform(0.6, 1))
    return sides if random.random() < 0.5 else sides[::-1]
