"""The policy of the nightly retraining: data checks, comparison, memory of past runs."""
