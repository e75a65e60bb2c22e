"""Who does the work: processes or a cluster, the queue in front of them."""
