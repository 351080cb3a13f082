"""How estimates write sizes; needs no Spark."""

from __future__ import annotations


def show_bytes(size: float) -> str:
    """Write a number of bytes for a person: 12 MB, 3.4 GB; of 2^20 and 2^30 bytes."""
    if size < 1 << 20:
        return f"{size / (1 << 10):.0f} kB"
    if size < 1 << 30:
        return f"{size / (1 << 20):.0f} MB"
    gigabytes = size / (1 << 30)
    return f"{gigabytes:.1f} GB" if gigabytes < 100 else f"{gigabytes:,.0f} GB"
