"""The Spark layer: ratings in DataFrames, blocks on executors, half-steps as Spark jobs."""
