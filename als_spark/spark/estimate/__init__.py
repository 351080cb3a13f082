"""What a training needs of a cluster, from counts alone: traffic, memory, time."""
