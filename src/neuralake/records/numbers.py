"""Whether a block of JSON may have numbers that a quicker reading would not keep exactly.

Each question is answered over whole blocks at the speed of memory where the answer is no, and errs
on the side of yes: digits inside texts count too.
"""

from __future__ import annotations

import re

__all__ = ["may_exceed_decimal256", "may_exceed_double"]

# Digits, the point and exponents as themselves; everything else as a space.
_SHAPE = bytes(
    ord("0") if chr(byte) in "0123456789." else ord("e") if chr(byte) in "eE" else ord(" ")
    for byte in range(256)
)
_EXPONENT = re.compile(rb'["\[:,]\s*[+-]?[\d.]+[eE]')
_SMALL_EXPONENT = re.compile(rb"[eE]-\d")


def may_exceed_decimal256(block: bytes) -> bool:
    """False: every number has less than 30 digits and no exponent.

    Scaled up by the largest scale (38) it then is below 10^68, which decimal256 holds.
    """
    shape = block.translate(_SHAPE)
    if b"0" * 30 in shape:
        return True
    return b"0e" in shape and _EXPONENT.search(block) is not None


def may_exceed_double(block: bytes) -> bool:
    """False: every number below 2^53 that a double shows as integral is that integer.

    Numbers of up to 15 digits are different doubles if they differ, unless they are so small that
    they become zero.
    """
    if b"0" * 16 in block.translate(_SHAPE):
        return True
    return (b"e-" in block or b"E-" in block) and _SMALL_EXPONENT.search(block) is not None
