"""Row systems and top-k in NumPy and SciPy: no Spark, no configuration."""
