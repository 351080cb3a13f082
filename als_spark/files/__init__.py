"""Folders and files on the driver: output folders, places, trees of files."""
