"""Ask a language model behind the chat API of OpenAI, as local servers offer it, for one answer."""

import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from sono.curation.core.errors import SonoError

MAX_ANSWER = 1 << 20  # bytes; a longer answer is not a caption
TRIES = 3
PAUSE = 0.2  # seconds before the second try; doubled for each further one


class NoAnswerError(Exception):
    """The server gave no usable answer; the text says why."""


@dataclass(frozen=True)
class ChatClient:
    """A server (its URL ends in /v1) and one of its models; `seconds` is the limit of an answer."""

    url: str
    model: str
    seconds: float = 60.0
    key: str = ""

    def ask(self, system: str, text: str) -> str:
        """The answer to `text`; NoAnswerError after three tries."""
        for attempt in range(TRIES):
            try:
                return _content(self._answer_in_time(system, text))
            except NoAnswerError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError  # not reached

    def _answer_in_time(self, system: str, text: str) -> bytes:
        """The answer; a server that sends its headers letter by letter is not waited for."""
        found: list[bytes | NoAnswerError] = []

        def work() -> None:
            try:
                found.append(self._answer(system, text))
            except NoAnswerError as error:
                found.append(error)

        thread = Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.seconds + 1)
        answer = found[0] if found else NoAnswerError("the server is too slow")
        if isinstance(answer, NoAnswerError):
            raise answer
        return answer

    def _answer(self, system: str, text: str) -> bytes:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 300}
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = urllib.request.Request(  # the scheme was checked
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
        )
        # neither a proxy nor a redirect may send the text elsewhere
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        end = time.monotonic() + self.seconds
        try:
            with opener.open(request, timeout=self.seconds) as answer:
                content = b""
                while part := answer.read1(1 << 16):
                    content += part
                    if len(content) > MAX_ANSWER:
                        raise NoAnswerError("the answer is too long")
                    if time.monotonic() > end:
                        raise NoAnswerError("the server is too slow")
        except TimeoutError as error:
            raise NoAnswerError("the server is too slow") from error
        except urllib.error.HTTPError as error:
            error.close()
            raise NoAnswerError(f"HTTP status {error.code}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            late = isinstance(reason, TimeoutError)
            raise NoAnswerError("the server is too slow" if late else "no connection") from error
        return content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _content(answer: bytes) -> str:
    """The text in an answer of the API."""
    try:
        choices = json.loads(answer)["choices"]
        (choice,) = choices
        text = choice["message"]["content"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NoAnswerError("not an answer of the chat API") from error
    if not isinstance(text, str):
        raise NoAnswerError("not an answer of the chat API")
    return " ".join(text.split())


def check_url(url: str, allow_remote: bool) -> bool:
    """Whether `url` is of another computer.

    Raises SonoError if it is no URL of HTTP, or remote without `allow_remote`.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise SonoError(
            f"--url {url}: {error}; give one such as http://127.0.0.1:8000/v1"
        ) from error
    if parts.scheme not in ("http", "https") or not host or parts.username:
        raise SonoError(f"--url {url}: not a server; give one such as http://127.0.0.1:8000/v1")
    remote = not _is_loopback(host)
    if remote and not allow_remote:
        raise SonoError(
            f"--url {url}: {host} is not this computer, so captions would leave it (planes, ages, "
            "structures and findings, without ids and names); run a server on 127.0.0.1, or give "
            "--allow-remote"
        )
    return remote


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
