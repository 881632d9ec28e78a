"""Separates ink from paper where both are known as levels: how dark, or light, each pixel is."""

import numpy as np
from scipy import ndimage

from cnn_jax.preprocessing.ink import (
    CONNECTIVITY,
    Floats,
    Ink,
    Mask,
    dilate,
    is_clear_of_border,
    longer_side,
    squared_gradient,
)
from cnn_jax.preprocessing.rules import remove_rules

MIN_CONTRAST = 6.0  # Of 255. Compression alone leaves as much on an even picture.
MIN_STRENGTH = 0.1  # Fainter is paper. The bounding box of the ink must not depend on its noise.
_WEAK = 0.5  # Of the threshold: the ends of a stroke may be so faint.
_MIN_SIDE = 0.04  # Of the picture's longer side: shorter strokes are specks.
_MAX_RULE_PASSES = 3  # Each finds fainter rules than the one before.

# What follows tells writing from the texture of empty paper. Of 664 pictures of digits the paper
# beside the ink reaches 0.4 of its strength, of empty ones mostly more than 0.5; the contrast of
# the former is at least 80.
_MAX_PAPER = 0.45  # Strength that at most 5 % of the paper may reach.
_CLEAR_CONTRAST = 25.0  # Of 255.
_INK, _PAPER = 0.6, 0.3  # Strengths of what is clearly ink, and clearly paper.
_MAX_LOST = 0.25  # Part of the ink that the rules may have hidden.
_MIN_OF_RULES = 1.2  # Of the strength of the rules: strokes as faint as they may be lost with them.


def threshold_ink(depth: Floats, is_dark: bool, *, has_even_ground: bool = False) -> Ink | None:
    """Returns the ink of a picture whose pixels rise some levels above the paper.

    The threshold is the mean depth of the edges, half-way into the ink. A histogram would not show
    a small amount of ink. The weight is squared again because noise is everywhere and faint ink is
    hardly steeper.

    Args:
      depth: float32 [H, W], levels of 255.
      is_dark: whether the ink is darker than the paper.
      has_even_ground: whether the paper has one colour, so that strokes may be cut off by the
        picture's border: nothing else is there.

    Returns:
      Ink of at least one pixel, or None where all pixels have one colour. It is doubtful where it
      may be the paper's own texture, or its rules.
    """
    if np.max(depth) < MIN_CONTRAST:
        return None
    with_rules, threshold = depth, _threshold(depth)
    without_rules, rule_depth = _remove_rules(depth, threshold)
    has_rules = rule_depth > 0
    is_doubtful = np.max(without_rules) < MIN_CONTRAST
    if has_rules and not is_doubtful:
        depth, threshold = without_rules, _threshold(without_rules)
    mask, only_specks = _remove_specks(depth > threshold, has_even_ground and not has_rules)
    mask = _with_weak_ink(mask, depth, threshold)
    paper = np.median(depth[depth <= threshold])
    full = np.percentile(depth[mask], 75)
    strength = np.clip((depth - paper) / (full - paper), 0.0, 1.0)
    around = dilate(mask, 3)
    is_doubtful |= only_specks or full - paper < max(_CLEAR_CONTRAST, _MIN_OF_RULES * rule_depth)
    is_doubtful |= np.sum(strength[~around] > _MAX_PAPER) > 0.05 * np.sum(~around)
    # Strokes along the rules were removed with them.
    lost = np.sum((with_rules > _INK * full) & (depth < _PAPER * full))
    is_doubtful |= lost > _MAX_LOST * np.sum(mask)
    strength[~dilate(mask, 1)] = 0.0  # Soft edges belong to strokes.
    strength[strength < MIN_STRENGTH] = 0.0
    return Ink(strength.astype(np.float32), is_dark, has_even_ground, has_rules, bool(is_doubtful))


def _with_weak_ink(mask: Mask, depth: Floats, threshold: float) -> Mask:
    """Adds the faint parts of strokes, connected to the others, where they stand out from paper."""
    paper = depth[~dilate(mask, 3)]
    noise = float(np.percentile(paper, 95)) if paper.size else 0.0
    weak = min(max(_WEAK * threshold, 3 * noise), threshold)
    labels, count = ndimage.label(depth > weak, CONNECTIVITY)
    is_connected = np.zeros(count + 1, bool)  # By label.
    is_connected[labels[mask]] = True
    return is_connected[labels]


def _threshold(depth: Floats) -> float:
    return float(np.average(depth, weights=squared_gradient(depth) ** 2))


def _remove_rules(depth: Floats, threshold: float) -> tuple[Floats, float]:
    """Returns the depth without the paper's rules, and the depth of the rules, 0 without rules."""
    rule_depth = 0.0
    for _ in range(_MAX_RULE_PASSES):
        without_rules, rules = remove_rules(depth, threshold)
        if not rules.any():
            break
        rule_depth = max(rule_depth, float(np.median((depth - without_rules)[rules])))
        depth = without_rules
        if np.max(depth) < MIN_CONTRAST:
            break  # Nothing is left: it has no edges, and so no threshold.
        threshold = _threshold(depth)
    return depth, rule_depth


def _remove_specks(mask: Mask, may_touch_border: bool) -> tuple[Mask, bool]:
    """Removes components that are small or may not touch the border, unless no others exist.

    Returns:
      bool [H, W], what stays, and whether no others exist.
    """
    labels, _ = ndimage.label(mask, CONNECTIVITY)
    min_side = max(2, _MIN_SIDE * max(mask.shape))
    boxes = ndimage.find_objects(labels)
    is_stroke = np.array(
        [
            (may_touch_border or is_clear_of_border(box, mask.shape))
            and longer_side(box) >= min_side
            for box in boxes
        ]
    )
    areas = np.bincount(labels.ravel())[1:] * (is_stroke if is_stroke.any() else ~is_stroke)
    # The smallest part of a digit, the top stroke of a 5, is more than 5 % of the largest.
    is_kept = np.concatenate([[False], areas >= 0.05 * areas.max()])  # By label.
    return is_kept[labels], not is_stroke.any()
