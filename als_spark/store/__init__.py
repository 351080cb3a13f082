"""The model store: a directory that unattended runs publish into and readers read from."""
