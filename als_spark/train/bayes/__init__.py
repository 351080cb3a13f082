"""Bayesian factorisation on the half-steps of any backend: see :mod:`als_spark.solve.posterior`."""
