"""Configurations of the jobs, and how they are read."""
