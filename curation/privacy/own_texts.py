"""The texts that sono itself writes, whatever the study: keys, codes and the words of its pages.

They come from the templates, the lists of codes and the source code, so that no list of them has to
be kept. Each is allowed only where sono writes it: a key in the place of a key, a sentence as a
whole.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from itertools import chain
from pathlib import Path, PurePath

from sono.curation.clinical.name_variants import words_of
from sono.curation.clinical.vocabulary import CODE_COLUMNS, CODES, COLUMNS, KEY_WORDS
from sono.curation.core.reasons import REASONS
from sono.curation.core.study_folder import CONFIG_NAME, NEW_CONFIG
from sono.curation.privacy.text_extraction import DESCRIPTION
from sono.curation.readers.archive_formats import MESSAGES as OF_ARCHIVES
from sono.curation.readers.containers import MESSAGES

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
PACKAGES = ("curation", "templates", "annotation", "training", "evaluation")
# Weights, graphs and logs of training: their texts are names of parameters and of code.
MODELS = (".onnx", ".pt", ".pth", ".safetensors", ".npy")
TENSORBOARD = "runs/*/tensorboard/*"
JSON = (".json", ".jsonl")
CARD = "README.md"  # the card of a study, an export or a run
LISTINGS = (*JSON, ".log", ".csv")
# Columns of which every cell is a word of sono.
CELLS = tuple(
    f"column '{name}'" for name in ("sector_kind", "condition", "convention", "template", "fields")
)
MIN_PHRASE = 2  # words of a text of the source code that is allowed within a longer one

# Names that PyTorch and ONNX write, and words of their formats.
FORMAT_WORDS = words_of(
    """
    little archive byteorder alignment collections ccollections ctorch utils floatstorage
    ordereddict rebuild serialization storage fortran descr numpy false true null none
    activation allowzero alpha arange argmax assert asserts buffer clone clsonlyblock concat
    constraints container deferred dilations encode exportedprogram folded fortranorder gather
    gathernd getattr getitem hierarchy insert inputspec intjd keepdims kwargs layernormalization
    matmul metadata module modules namespace normalized notset onnxscript optimizer
    outputspec packages passes permute persistent pytorch quick quickgelu
    removeoptionalbiasfromconv removeoptionalbiasfromgemm residualattentionblock rewriter runtime
    scopes selfattention sequential sigmoid signature slice softmax sparse squeeze stack stash
    strides super sweep trace transa transb typing unsqueeze users visiontransformer
    texttransformer multiheadattention
    """
)

# A stored frame or its embedding: digests alone, in which the digits of an id may occur by chance.
_FRAME = re.compile(
    r"frames/([0-9a-f]{2})/\1[0-9a-f]{14}-[0-9a-f]{8}\.png"
    r"|packed/embeddings/[0-9a-f]{16}/[0-9a-f]{32}\.safetensors"
)
_KEY = re.compile(r'(?<!\\)"([^"\\\n]{1,80})"\s*:')
_PANDAS = re.compile(r'"(?:library|pandas_type|numpy_type)": "[\w.\[\]-]*"')
_LITERAL = re.compile(r"(?<=[\s:\[,])(?:true|false|null)(?=[\s,\]}]|$)")
_SETTING = re.compile(r"^[ \t]*\[?\[?([\w.\"-]{1,80})\]?\]?[ \t]*(?==|$)", re.MULTILINE)
_MARKUP = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<[^<>]*>", re.DOTALL)
_QUOTED = re.compile(r'"([^"\n]+)"')
PROMPT_TABLES = re.compile(r"(phrasings|prompts(_of_\d+)?)\.csv$")  # of an evaluation
_LINK = re.compile(r'(?<=href=")tables/(\w+)\.csv(?=")')
_SYNTAX = re.compile(r'<!?/?[a-z]\w*|(?<=\s)(?:class="[\w -]*"|[a-z-]+(?=="))', re.IGNORECASE)
_CELL = re.compile(r"(?<=>)[^<>]{1,200}(?=<)|(?<=\n)[^\n<>]{1,200}(?=\n)")


def without_own(text: str, place: Path, where: str, found: Iterable[str]) -> str:
    """`text` of the file at `place` without what sono wrote there, where that holds one of `found`.

    Names of stored frames, keys, settings and cells are removed as a whole; a sentence of the
    source code is removed where it occurs.
    """
    if where == "the name" and _FRAME.fullmatch(place.as_posix()):
        return ""
    text = _FRAME.sub("|", text)
    suffix = place.suffix
    if where == DESCRIPTION:
        text = _PANDAS.sub("|", text)
    if where == DESCRIPTION or where in CELLS:
        text = "\n".join(line for line in text.split("\n") if line not in _cells())
    elif where:
        return text
    if suffix in (".html", *LISTINGS) or is_card(place):
        for phrase in _phrases_with(frozenset(found)):
            text = text.replace(phrase, " | ").replace(escape(phrase), " | ")
    if suffix in (*LISTINGS, ".safetensors") or where == DESCRIPTION:
        text = _LITERAL.sub("|", _KEY.sub(_unless_data, text))
    elif suffix == ".toml":
        text = _SETTING.sub(_unless_data, text)
    elif suffix == ".html":
        text = _SYNTAX.sub("|", _LINK.sub(_unless_data, _CELL.sub(_unless_written, text)))
    return text


def _unless_data(match: re.Match[str]) -> str:
    return "|" if _is_name(match[1]) else match[0]


def _unless_written(match: re.Match[str]) -> str:
    cell = match[0].strip()
    setting = re.fullmatch(r"[a-z]+(?:\.[a-z_0-9]+)+", cell) and _is_name(cell)
    return "|" if setting or cell in _cells() else match[0]


def is_card(place: PurePath) -> bool:
    """Whether a file is the card of a study, an export or a run."""
    return re.fullmatch(rf"(runs/[^/]+/)?{re.escape(CARD)}", place.as_posix()) is not None


def _is_name(text: str) -> bool:
    return words_of(text.replace("_", " ")) <= identifiers() | FORMAT_WORDS


@cache
def own_text(place: str, where: str) -> str:
    """The text whose words are allowed anywhere at `where` in the file at `place`.

    Each line is a word, a code or a sentence.
    """
    meanings = tuple(reason.meaning for reason in REASONS.values()) + MESSAGES + OF_ARCHIVES
    words: tuple[str, ...] = ()
    if where.startswith("column "):
        column = where.removeprefix("column ").strip("'").removeprefix("other_")
        if column in CODE_COLUMNS:
            words = CODES
        else:
            words = {"text": _pages("captions"), "message": meanings}.get(column, ())
    elif where == DESCRIPTION:
        words = COLUMNS
    elif place == CONFIG_NAME:
        words = (NEW_CONFIG,)
    elif place.endswith(".html") or is_card(PurePath(place)):
        words = (*CODES, *meanings)
    elif place.endswith(JSON):
        words = CODES
    elif place.endswith(LISTINGS):
        words = (*CODES, *COLUMNS, *KEY_WORDS)
    if PROMPT_TABLES.search(place):
        words += _pages("captions")
    return "\n".join(words)


def own_names(place: Path) -> frozenset[str]:
    """The words that are no names in the file at `place`, because it holds weights or their log."""
    if place.suffix in MODELS or place.match(TENSORBOARD):
        return identifiers() | FORMAT_WORDS
    return frozenset()


@cache
def _pages(folder: str) -> tuple[str, ...]:
    return tuple(
        page.read_text(encoding="utf-8")
        for page in (TEMPLATES / folder).rglob("*")
        if page.is_file()
    )


@cache
def _source() -> tuple[frozenset[str], frozenset[str]]:
    """The identifiers of sono's source code, and its texts with those of the templates."""
    names: set[str] = set()
    texts: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if "phantom" in file.parts:
                continue  # it has names of invented persons
            tree = ast.parse(file.read_bytes())
            comments = {id(node) for node in _docstrings(tree)}
            for node in ast.walk(tree):
                names.update(_names_of(node))
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.update({node.value.strip()} if id(node) not in comments else ())
    texts |= set(_texts_of_templates())
    return frozenset(names), frozenset(texts)


def _texts_of_templates() -> Iterator[str]:
    """The texts between the placeholders and tags of templates, line by line, and quoted ones."""
    for page in TEMPLATES.rglob("*"):
        if page.suffix in (".j2", ".css", ".js", ".toml"):
            text = page.read_text(encoding="utf-8")
            lines = chain(text.splitlines(), _MARKUP.sub("\n", text).splitlines())
            yield from (line.strip() for line in lines if line.strip())
            yield from _QUOTED.findall(text)


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    """The texts that stand alone: they describe the code, with examples of names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value


def _names_of(node: ast.AST) -> Iterator[str]:
    for field in ("id", "attr", "arg", "name"):
        name = getattr(node, field, None)
        if isinstance(name, str):
            yield name


@cache
def identifiers() -> frozenset[str]:
    """The words of the names in sono's source code, and of texts that are written like names."""
    names, texts = _source()
    like_names = (text for text in texts if re.fullmatch(r"[a-z_][a-z0-9_.-]*", text))
    return words_of(*(name.replace("_", " ") for name in (*names, *like_names)))


@cache
def _cells() -> frozenset[str]:
    """The texts that a cell may consist of: those of code and templates, and names in words."""
    names, texts = _source()
    variables = {name for name in names if name.islower()}
    return texts | {name.replace("_", " ").strip() for name in (*variables, *texts)}


@cache
def _phrases_with(found: frozenset[str]) -> tuple[str, ...]:
    """The texts of sono with one of the words `found`, the longest first."""
    wanted = {word for one in found for word in one.split()}
    phrases = {
        text
        for text in _cells()
        if len(text.split()) >= MIN_PHRASE and any(word in text.lower() for word in wanted)
    }
    return tuple(sorted(phrases, key=lambda text: (-len(text), text)))
