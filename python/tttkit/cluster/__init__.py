"""Work spread over the machines of a Ray cluster: the same files as on one machine."""
