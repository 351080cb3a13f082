"""What a person sees: plots, progress and tables."""
