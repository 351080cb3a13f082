"""Drills: what the nightly jobs promise, tried out on whole nights and on killed runs."""
