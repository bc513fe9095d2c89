"""How the loops of the optional kernel are compiled: numba, bit for bit what Python would answer.

Compiling takes seconds, so machine code is kept: beside the source where that can be written, else
in the user's cache folder or where NUMBA_CACHE_DIR says, else (read-only machines) nowhere. Numba
does not notice when a function of another file changes, so loops call loops of their own file only.

Loops fill arrays they are given rather than make their own: NumPy asks the system for large pages,
numba does not, and fresh memory then costs more than what is written to it.
"""

from collections.abc import Callable
from typing import TypeVar

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile a loop at its first call.

    No fast maths: floats keep their order and their last bit. Division by zero is checked by the
    loops. The interpreter is free meanwhile, so loops may run in threads.
    """
    try:
        fast: Loop = numba.njit(cache=True, error_model="numpy", nogil=True)(loop)
    except RuntimeError:  # numba found no folder to keep machine code in
        fast = numba.njit(error_model="numpy", nogil=True)(loop)
    return fast
