"""Runtime support of training: processes, memory and signals."""
