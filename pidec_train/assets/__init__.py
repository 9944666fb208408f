"""Files that ship with the package: the demonstrations of the quickstart."""
