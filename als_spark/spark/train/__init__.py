"""Half-steps and whole models as Spark jobs."""
