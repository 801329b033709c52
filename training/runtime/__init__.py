"""Processes, memory and signals: the ground that training runs on."""
