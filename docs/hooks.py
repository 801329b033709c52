"""Hooks of MkDocs: remove the one script that the theme would load from the network."""

import re
from typing import Any


def on_post_page(output: str, **_: Any) -> str:
    """The page without scripts from other hosts."""
    return _local(output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for pages without Markdown, such as 404.html."""
    return _local(output_content)


def _local(html: str) -> str:
    return re.sub(r'<script src="https?://[^"]*"></script>', "", html)
