"""Makes the C library give large blocks back."""

import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 4 << 20


def return_large_blocks() -> None:
    """When they are freed, at once.  By itself glibc would soon keep blocks of up to 32 MiB, for each thread.

    Does nothing where the C library has no such option.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
