"""A trained model: factors and ids, folding in, recommendations, files."""
