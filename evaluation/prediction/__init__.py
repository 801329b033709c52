"""Use of a trained model: on pictures in Python, and on files of any format."""
