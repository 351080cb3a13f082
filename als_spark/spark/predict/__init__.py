"""Evaluations and recommendations as Spark jobs."""
