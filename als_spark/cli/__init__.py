"""The programs behind ``jobs/``: options, the order of the steps, what is written."""
