"""Caption templates: a small, safe part of Jinja, since a user's template set is untrusted."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from traceback import extract_tb
from typing import Any

from jinja2 import StrictUndefined, Template, nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sono.curation.core.atomic import (
    MAX_TEXT_BYTES,
    check_inside,
    check_utf8,
    read_regular,
    real_path,
    sha256,
)
from sono.curation.core.errors import SonoError, did_you_mean
from sono.templates.allowed import FILTERS, refuse_others
from sono.templates.caption_values import Values

BUILT_IN = ("fetalclip", "multi", "short", "sonoclip", "standard")
LEVEL_FILES = {"global": "global.j2", "region": "region.j2"}
# Phrasings of one fact, one per line: the file, and the only value that its lines use. A set
# without such a file has the standard ones. `unseen` ones are only for evaluation: training never
# draws them.
PROMPT_FILES = {
    "plane": ("prompts.j2", "plane"),
    "region": ("region_prompts.j2", "structure"),
    "unseen_plane": ("unseen_prompts.j2", "plane"),
    "unseen_region": ("unseen_region_prompts.j2", "structure"),
}
MAX_PHRASINGS = 20  # of a set at one level: global.j2, global_2.j2, ...
MAX_TEXT_CHARS = 512  # of a rendered text, and of every value given to a template
MAX_SOURCE_CHARS = 8_000

_OF_A_SET = f"a template set contains {', '.join(LEVEL_FILES.values())}"
_LINE = re.compile("\0([0-9]+)\0")  # the number of the line that the next piece comes from


@dataclass(frozen=True)
class _Source:
    """A checked template and the names that its text prints."""

    path: Path
    text: str
    template: Template
    names: frozenset[str]
    printed: frozenset[str]


@dataclass(frozen=True)
class CaptionTemplates:
    """A caption set; `id` is its name and a hash of its caption and plane prompt templates.

    `prompts` are the zero-shot phrasings of a plane, not rendered. `others` are the same set with
    its other phrasings of captions, if it has several.
    """

    name: str
    id: str
    prompts: tuple[str, ...]
    _global: _Source
    _region: _Source
    _prompts: Mapping[str, tuple[_Source, ...]]  # by the keys of PROMPT_FILES
    others: tuple["CaptionTemplates", ...] = ()

    def phrasing(self, key: str, seed: int = 0) -> int:
        """Which phrasing the caption of a frame or mask has: 0 for this, n for `others[n - 1]`.

        It depends on `key` (its id) and `seed` alone, so it is equal in every run and worker.
        """
        if not self.others:
            return 0
        digest = sha256(f"{seed}\0{key}".encode())
        return int(digest[:8], 16) % (len(self.others) + 1)

    def render_global(self, values: Values) -> str:
        """The caption of a whole frame; SonoError names the file and line that fail."""
        return _render(self._global, values)

    def render_region(self, values: Values) -> str:
        """The caption of one mask; SonoError names the file and line that fail."""
        return _render(self._region, values)

    def render_prompts(self, plane_name: str) -> list[str]:
        """The phrasings of a plane's name, for training and zero-shot classification."""
        return self._phrasings("plane", plane_name)

    def render_region_prompts(self, structure: str) -> list[str]:
        """The phrasings of a structure's name, for training and region naming."""
        return self._phrasings("region", structure)

    def render_unseen_prompts(self, plane_name: str) -> list[str]:
        """Phrasings of a plane's name that training never draws."""
        return self._phrasings("unseen_plane", plane_name)

    def render_unseen_region_prompts(self, structure: str) -> list[str]:
        """Phrasings of a structure's name that training never draws."""
        return self._phrasings("unseen_region", structure)

    def written(self, level: str, values: Values) -> Iterator[tuple[str, str]]:
        """What the template of `level` writes, piece by piece: `file:line`, and the text so far."""
        source = self._level(level)
        texts = iter(_LINE.split(_numbered(source.text).render(values))[1:])
        so_far = ""
        yield f"{source.path}:1", so_far
        for line, piece in zip(texts, texts, strict=True):
            so_far += piece
            yield f"{source.path}:{line}", " ".join(so_far.split())

    def _phrasings(self, kind: str, name: str) -> list[str]:
        return [_render(source, {PROMPT_FILES[kind][1]: name}) for source in self._prompts[kind]]

    def names(self, level: str) -> frozenset[str]:
        """The values that the template of `level` depends on."""
        return self._level(level).names

    def printed(self, level: str) -> frozenset[str]:
        """The values that the template of `level` may print."""
        return self._level(level).printed

    def _level(self, level: str) -> _Source:
        return {"global": self._global, "region": self._region}[level]


def load_templates(name_or_folder: str) -> CaptionTemplates:
    """The template set of that name, or of a folder.

    A folder has `global.j2`, `region.j2` and optional prompt files; the standard ones are used
    where it has none. Further phrasings of captions are in `global_2.j2`, `region_2.j2` and so on;
    the level with fewer of them repeats them. Raises SonoError for an unknown set; with file and
    line for a syntax error or a construct that is not allowed.
    """
    folder = _find_set(name_or_folder)
    paths = {level: _phrasings_of(folder, file) for level, file in LEVEL_FILES.items()}
    sources = {
        level: [_check(_read(path), path, 1) for path in own] for level, own in paths.items()
    }
    prompts = {}
    for kind, (file, value) in PROMPT_FILES.items():
        path = folder / file if (folder / file).exists() else _built_in("standard") / file
        text = _read(path)
        prompts[kind] = _check_prompts(text, path, value)
        if kind == "plane":
            prompt_text = text
    texts = [one.text for own in sources.values() for one in own]
    set_id = f"{folder.name}-{sha256(chr(0).join([*texts, prompt_text]).encode())[:8]}"
    phrasings = tuple(line for _, line in _numbered_lines(prompt_text))
    whole, region = sources["global"], sources["region"]
    first, *others = (
        CaptionTemplates(
            folder.name,
            set_id,
            phrasings,
            whole[number % len(whole)],
            region[number % len(region)],
            prompts,
        )
        for number in range(max(len(whole), len(region)))
    )
    return replace(first, others=tuple(others))


def _phrasings_of(folder: Path, file: str) -> list[Path]:
    """The files of a level: `global.j2`, then `global_2.j2` and so on without a gap."""
    found = [folder / file]
    for number in range(2, MAX_PHRASINGS + 1):
        path = folder / file.replace(".j2", f"_{number}.j2")
        if not path.exists():
            break
        found.append(path)
    listed = {path.name for path in folder.glob(file.replace(".j2", "_*.j2"))}
    known = {*(path.name for path in found), *(name for name, _ in PROMPT_FILES.values())}
    if lost := sorted(listed - known):
        raise SonoError(
            f"{folder / lost[0]}: not used; phrasings are numbered {file}, "
            f"{file.replace('.j2', '_2.j2')} and so on without a gap, {MAX_PHRASINGS} at most"
        )
    return found


def load_prompts(path: str | PathLike[str]) -> Callable[[str], list[str]]:
    """The prompts of a text file, one per line with {{ plane }}; they take the name of a plane.

    Raises SonoError for a file that cannot be read, and with the line for a prompt that is wrong.
    """
    file = real_path(Path(path))
    check_utf8(file)
    value = PROMPT_FILES["plane"][1]
    sources = _check_prompts(_read(file, "give a text file of prompts"), file, value)
    return lambda name: [_render(source, {value: name}) for source in sources]


def _built_in(name: str) -> Path:
    return Path(__file__).parent / "captions" / name


def _find_set(name_or_folder: str) -> Path:
    if name_or_folder in BUILT_IN:
        return _built_in(name_or_folder)
    folder = Path(name_or_folder)
    if not folder.is_dir():
        hint = did_you_mean(name_or_folder, BUILT_IN)
        raise SonoError(
            f"unknown template set '{name_or_folder}'{hint} (or give the folder of your own set)"
        )
    folder = real_path(folder)
    check_utf8(folder)
    return folder


def _read(path: Path, missing: str = _OF_A_SET) -> str:
    check_inside(path, path.parent)
    try:
        text = read_regular(path, MAX_TEXT_BYTES).decode("utf-8-sig")  # editors may write a BOM
    except FileNotFoundError as error:
        raise SonoError(f"{path}: missing; {missing}") from error
    except OSError as error:
        raise SonoError(f"{path}: cannot be read ({error.strerror}); {missing}") from error
    except UnicodeDecodeError as error:
        raise SonoError(f"{path}: not a readable UTF-8 file: {error}") from error
    if len(text) > MAX_SOURCE_CHARS:
        raise SonoError(
            f"{path}: {len(text)} characters; a caption template has at most {MAX_SOURCE_CHARS}"
        )
    return text


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    return [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _check_prompts(text: str, path: Path, value: str) -> tuple[_Source, ...]:
    sources = tuple(_check(line, path, number) for number, line in _numbered_lines(text))
    for (number, line), source in zip(_numbered_lines(text), sources, strict=True):
        if source.names != {value}:
            raise SonoError(
                f"{path}:{number}: a prompt uses '{value}' and no other value; this one is "
                f"'{line[:60]}'"
            )
    if not sources:
        raise SonoError(
            f"{path}: no prompts; write one phrasing per line, such as 'a fetal ultrasound, {{{{ "
            f"{value} }}}}'"
        )
    return sources


@lru_cache(maxsize=512)  # a command asks for its set several times, of some thirty sources
def _check(text: str, path: Path, first_line: int) -> _Source:
    """Parse and check a template, then compile it.

    The check comes first, since compiling would fold constants.
    """
    environment = _environment()
    try:
        tree = environment.parse(text)
        refuse_others(tree, path, first_line)
        code = environment.compile(tree, filename=f"{path}:{first_line}")
    except TemplateSyntaxError as error:
        raise SonoError(f"{path}:{error.lineno + first_line - 1}: {error.message}") from error
    except (RecursionError, SyntaxError, MemoryError, ValueError) as error:  # limits of the parsers
        raise SonoError(
            f"{path}:{first_line}: nested too deeply, or a number too long; simplify it"
        ) from error
    template = Template.from_code(environment, code, {})
    names = frozenset(node.name for node in tree.find_all(nodes.Name))
    shown = (node for output in tree.find_all(nodes.Output) for node in output.find_all(nodes.Name))
    return _Source(path, text, template, names, frozenset(node.name for node in shown))


def _numbered(text: str) -> Template:
    """The checked template `text`, with the number of its line before each piece that it writes."""
    environment = _environment()
    tree = environment.parse(text)
    for output in tree.find_all(nodes.Output):
        output.nodes = [piece for node in output.nodes for piece in _with_lines(node)]
    return Template.from_code(environment, environment.compile(tree), {})


def _with_lines(node: nodes.Expr) -> Iterator[nodes.Expr]:
    if not isinstance(node, nodes.TemplateData):
        yield from (nodes.TemplateData(f"\0{node.lineno}\0"), node)
        return
    for number, line in enumerate(re.split("(?<=\n)", node.data), start=node.lineno):
        yield nodes.TemplateData(f"\0{number}\0{line}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, cache_size=0
    )
    environment.globals = {}
    environment.filters = {name: environment.filters[name] for name in FILTERS} | {
        "join": _join,
        "round": _round,
    }
    environment.tests = {}
    return environment


def _join(value: object, separator: str = ", ") -> object:
    """Lists are given already joined.

    Joining a text would put `separator` between its letters, and repeat to any length.
    """
    return value


def _round(value: float, digits: int = 0) -> float:
    """Jinja's own computes 10 ** digits, which a large number turns into hours."""
    if not 0 <= digits <= 6:
        raise ValueError(f"round takes 0 to 6 digits, not {digits}")
    return round(value, digits) if digits else round(value)


def _render(source: _Source, values: Values) -> str:
    _check_values(values)
    where = source.template.filename or ""
    try:
        text = " ".join(source.template.render(values).split())
    except (TemplateError, TypeError, ValueError, OverflowError) as error:
        path, _, first_line = where.rpartition(":")
        line = _failing_line(error, where) + int(first_line) - 1
        raise SonoError(
            f"{path}:{line}: {error} (a value that a record does not have is null; test it with "
            "`if` first)"
        ) from error
    if len(text) > MAX_TEXT_CHARS:
        path = where.rpartition(":")[0]
        raise SonoError(f"{path}: renders {len(text)} characters; the limit is {MAX_TEXT_CHARS}")
    return text


def _check_values(values: Values) -> None:
    for name, value in values.items():
        plain: Any = value
        if plain is not None and type(plain) not in (str, int, float, bool):
            raise SonoError(
                f"the value '{name}' is a {type(plain).__name__}; templates take text, numbers and "
                "null"
            )
        if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
            raise SonoError(
                f"the value '{name}' has {len(value)} characters; the limit is {MAX_TEXT_CHARS}"
            )


def _failing_line(error: Exception, filename: str) -> int:
    lines = [
        frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == filename
    ]
    return lines[-1] or 1 if lines else 1
