"""The network: towers, mask channel, adapters, checkpoints and weight files."""
