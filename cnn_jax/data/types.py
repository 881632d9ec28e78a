"""Images with their labels, as every other file of this package hands them on."""

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a data set, in memory.

    Attributes:
      image: uint8 [N, H, W, C], 0..255.
      label: int32 [N], 0..K-1.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.int32]
