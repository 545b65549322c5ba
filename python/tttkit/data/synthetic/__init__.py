"""Synthetic tasks whose texts are generated from seeds: which tokens they have, and one file for each task."""
