"""Models that turn a prompt on a frame into a mask: Segment Anything in torch and in ONNX."""
