"""How far apart colours look, with every kind of colour vision and in grey."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

# Machado, Oliveira & Fernandes, IEEE Trans. Vis. Comput. Graph. 15, 2009, table 1, severity 1.0; linear RGB.
VISIONS: dict[str, NDArray[np.float64]] = {
    "all colours": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# sRGB's primaries and its white point D65 (IEC 61966-2-1).
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> NDArray[np.float64]:
    """Returns a colour in linear RGB."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns CIE L*, a*, b* of linear RGB."""
    share = TO_XYZ @ rgb / WHITE
    bent = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * bent[1] - 16, 500 * (bent[0] - bent[1]), 200 * (bent[1] - bent[2])])


def distance(first: str, second: str, vision: str = "all colours") -> float:
    """Returns the CIE 1976 distance of two colours as someone with a kind of colour vision sees them."""
    one, other = (lab(np.clip(VISIONS[vision] @ linear(colour), 0, 1)) for colour in (first, second))
    return float(np.linalg.norm(one - other))


def grey_distance(first: str, second: str) -> float:
    """Returns how far apart the lightness L* of two colours is: what a copy in grey keeps."""
    return float(abs(lab(linear(first))[0] - lab(linear(second))[0]))


def contrast(colour: str) -> float:
    """Returns the contrast of a colour with white paper (WCAG 2.2: text wants 4.5, marks 3)."""
    return float(1.05 / (TO_XYZ[1] @ linear(colour) + 0.05))
