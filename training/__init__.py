"""The mask-channel CLIP: model, losses, data, loop and checkpoints."""
