"""The simulator: the only importer of mani_skill and sapien."""
