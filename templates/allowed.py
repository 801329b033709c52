"""What a caption template may contain: a user's template set is untrusted."""

from collections.abc import Iterator
from pathlib import Path

from jinja2 import nodes

from sono.curation.core.errors import SonoError, did_you_mean
from sono.templates.caption_values import TEMPLATE_VALUES

_ALLOWED_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Const,
)
FILTERS = ("default", "join", "lower", "round", "upper")


def refuse_others(tree: nodes.Template, path: Path, first_line: int) -> None:
    """Raise SonoError with file and line for the first construct that is not allowed."""
    for node in _walk(tree):
        problem = _problem(node)
        if problem:
            raise SonoError(f"{path}:{node.lineno + first_line - 1}: {problem}")


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _problem(node: nodes.Node) -> str:
    """What is wrong with a node, or nothing."""
    if isinstance(node, nodes.Name):
        known = node.name in TEMPLATE_VALUES
        return (
            ""
            if known
            else f"unknown value '{node.name}'{did_you_mean(node.name, TEMPLATE_VALUES)}"
        )
    if isinstance(node, nodes.Filter):
        return _filter_problem(node)
    if isinstance(node, _ALLOWED_NODES) or type(node) is nodes.Keyword:
        return ""
    kind = type(node).__name__.lower()
    return (
        f"'{kind}' is not allowed; a caption template has values, if, comparisons and the "
        f"filters {', '.join(FILTERS)}"
    )


def _filter_problem(node: nodes.Filter) -> str:
    if node.name not in FILTERS:
        return f"the filter '{node.name}' is not allowed{did_you_mean(node.name, FILTERS)}"
    arguments = [*node.args, *(keyword.value for keyword in node.kwargs)]
    if (
        node.node is None
        or node.dyn_args
        or node.dyn_kwargs
        or not all(isinstance(a, nodes.Const) for a in arguments)
    ):
        return f"the filter '{node.name}' takes a value and constants only"
    return ""
