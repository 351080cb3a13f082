"""The drop-in for ``pyspark.ml.recommendation.ALS``: an estimator and a model in Python.

The import paths :class:`als_spark.ml.als.ALS` and :class:`als_spark.ml.model.ALSModel` are part of
what they save.
"""
