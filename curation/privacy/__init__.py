"""The privacy gate: private strings of the sources, and the texts that must not contain them."""
