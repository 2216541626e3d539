"""What a task's error says: read out of the text that Spark prints, stack and all."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

ErrorKind: TypeAlias = Literal[
    "out_of_memory", "python_exception", "exception", "fetch_failed", "executor_lost", "other"
]

MAX_MESSAGE = 500
MAX_TEXT = 64 * 1024
SHOWN_FRAMES = 6

_EXIT_CODE = re.compile(r"exit(?:ed with)?(?: code| status)?:? (?:code )?(\d{1,3})\b", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|SparkOutOfMemoryError|exceeding (?:physical |virtual )?memory limits|OOMKilled|"
    r"Unable to acquire \d+ bytes of memory|Total size of serialized results|MemoryError",
)
_CAUSED_BY = re.compile(r"^Caused by: (.+)$", re.MULTILINE)
_THROWN = re.compile(r"^\s*((?:[A-Za-z_$][\w$]*\.)*[A-Za-z_$][\w$]*)(?:: (.*))?$", re.DOTALL)
_JAVA_FRAME = re.compile(r"^[ \t]+at (?:[\w.@-]+/)?([\w.$<>]+)\(([^():]*)(?::(\d+))?\)", re.MULTILINE)
_PYTHON_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in (.+)$')
_PYTHON_RAISED = re.compile(r"^((?:\w+\.)*\w+)(?:: (.*))?$")
_PYTHON_END = re.compile(r"\n[ \t]*SQLSTATE:|\n[ \t]+at |\n\n")
_TRACEBACK = "Traceback (most recent call last):"
_OF_OTHERS = (
    *("org.apache.spark.", "org.apache.hadoop.", "scala.", "java.", "javax.", "jdk.", "sun.", "com.sun."),
    *("py4j.", "org.apache.parquet.", "org.apache.arrow.", "io.netty."),
)
_NAMED_VALUE = re.compile(r"\b([A-Za-z_]\w*)\s*=\s*('[^'\n]{1,60}'|\"[^\"\n]{1,60}\"|[\w.:+-]{1,60})")
_COUNTED = re.compile(r"\b(row|record|line|id|key|offset|partition)\s+#?(\d+)\b", re.IGNORECASE)
_ROW_NAMES = frozenset(
    {"id", "row", "row_id", "rowid", "key", "line", "record", "offset", "index", "pk", "uuid"}
)
LOST = "ExecutorLostFailure"
"""What stands for an exception where the executor was gone before there was one."""
EXIT_OUT_OF_MEMORY = 52
"""`SparkExitCode.OOM`: the executor's JVM ran out of memory."""
EXIT_KILLED = 137
"""128 + SIGKILL: mostly a container over its limit."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in somebody's code it happened."""

    file: str
    line: int | None
    function: str
    code: str = ""
    """The line itself, where the error prints it."""


@dataclass(frozen=True, slots=True)
class TaskError:
    """An error, told apart."""

    kind: ErrorKind
    exception: str
    """Its class: Python's own name for what a UDF raised, else Java's."""
    message: str
    place: Place | None = None
    row: str = ""
    """The row that the message names, such as `id=1337`; empty where it names none."""
    exit_code: int | None = None
    stack: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The same for the same mistake: without numbers, quoted values and folders."""
        where = f"{self.place.file.rpartition('/')[2]}:{self.place.function}" if self.place else ""
        return fingerprint(self.kind, self.exception, self.message, where)


def fingerprint(kind: str, *parts: str) -> str:
    """Return a short name for a kind of trouble: `kind-` and 12 hex digits."""
    digest = hashlib.sha256("\n".join(template(part) for part in parts).encode()).hexdigest()
    return f"{kind.replace('_', '-')}-{digest[:12]}"


def template(message: str) -> str:
    """Return a message with what changes from run to run taken out."""
    said = re.sub(r"'[^']*'|\"[^\"]*\"", "S", message)
    said = re.sub(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "H", said)
    said = re.sub(r"(?:/[\w.@-]+)+/", "", said)
    said = re.sub(r"\d+(?:\.\d+)*", "N", said)
    return " ".join(said.split())


def read(text: str) -> TaskError:
    """Tell an error apart. Whatever the text, there is an answer."""
    text = text[:MAX_TEXT]
    if _TRACEBACK in text:
        return _python(text)
    if text.startswith(LOST):
        return _executor_lost(text)
    if text.startswith("FetchFailed"):
        _, _, said = text.partition("message=\n")
        return TaskError("fetch_failed", "FetchFailed", _first_line(said or text), stack=_stack(text))
    return _java(text)


def reason_lost(reason: str) -> TaskError:
    """Tell apart why an executor was lost."""
    return _lost(reason, reason)


def exit_code(text: str) -> int | None:
    """Return the exit code that a text names."""
    found = _EXIT_CODE.search(text)
    return int(found[1]) if found else None


def _executor_lost(text: str) -> TaskError:
    return _lost(text.partition("Reason: ")[2] or text, text)


def _lost(reason: str, text: str) -> TaskError:
    code = exit_code(reason)
    memory = code in (EXIT_OUT_OF_MEMORY, EXIT_KILLED) or _OUT_OF_MEMORY.search(text) is not None
    kind: ErrorKind = "out_of_memory" if memory else "executor_lost"
    return TaskError(kind, LOST, _first_line(reason), exit_code=code)


def _python(text: str) -> TaskError:
    """Read the last traceback: of a chain it is what was raised in the end."""
    block = text.rpartition(_TRACEBACK)[2]
    lines = block.lstrip("\n").split("\n")
    frames, rest = _python_frames(lines)
    raised = _PYTHON_END.split("\n".join(rest), maxsplit=1)[0].strip()
    match = _PYTHON_RAISED.match(raised.partition("\n")[0])
    exception = match[1] if match else "PythonException"
    message = raised[len(exception) :].removeprefix(":").strip() if match else raised
    memory = exception.rpartition(".")[2] == "MemoryError"
    return TaskError(
        kind="out_of_memory" if memory else "python_exception",
        exception=exception,
        message=_cut(message),
        place=_python_place(frames),
        row=row_named(message),
        stack=tuple(f"{f.file}:{f.line} in {f.function}" for f in frames[-SHOWN_FRAMES:]),
    )


def _python_frames(lines: list[str]) -> tuple[list[Place], list[str]]:
    """Return a traceback's frames, and the lines after them."""
    frames: list[Place] = []
    position = 0
    while position < len(lines):
        match = _PYTHON_FRAME.match(lines[position])
        if match is None and not lines[position].startswith("  "):
            break
        if match is not None:
            following = lines[position + 1].strip() if position + 1 < len(lines) else ""
            code = "" if _PYTHON_FRAME.match(f"  {following}") else following
            frames.append(Place(match[1], int(match[2][:9]), match[3], code[:200]))
        position += 1
    return frames, lines[position:]


def _python_place(frames: list[Place]) -> Place | None:
    """Return the innermost frame of the user's own code."""
    own = [f for f in frames if "/pyspark/" not in f.file and "pyspark.zip" not in f.file]
    own_code = [f for f in own if "/site-packages/" not in f.file and not f.file.startswith("<frozen")]
    chosen = own_code or own or frames
    return chosen[-1] if chosen else None


def _java(text: str) -> TaskError:
    causes = _CAUSED_BY.findall(text)
    first = _first_line(text)
    said = causes[-1] if causes else first
    match = _THROWN.match(said)
    thrown = match is not None and ("." in match[1] or match[1].endswith(("Exception", "Error")))
    exception, message = (match[1], match[2] or "") if match is not None and thrown else ("", said)
    memory = _OUT_OF_MEMORY.search(f"{first}\n{said}") is not None
    if memory and not exception.endswith(("OutOfMemoryError", "MemoryError")):
        exception, message = _memory_error(text, exception, message)
    kind: ErrorKind = "out_of_memory" if memory else "exception" if exception else "other"
    return TaskError(
        kind, exception, _cut(message), _java_place(text), row_named(message), exit_code(first), _stack(text)
    )


def _memory_error(text: str, exception: str, message: str) -> tuple[str, str]:
    """Return the memory error that a longer sentence wraps, as a stage's failure reason does."""
    found = re.search(r"((?:\w+\.)+\w*OutOfMemoryError)(?:: ([^\n]*))?", text)
    return (found[1], found[2] or "") if found else (exception, message)


def _java_place(text: str) -> Place | None:
    for match in _JAVA_FRAME.finditer(text):
        if not match[1].startswith(_OF_OTHERS):
            return Place(match[2], int(match[3][:9]) if match[3] else None, match[1])
    return None


def _stack(text: str) -> tuple[str, ...]:
    return tuple(
        match[0].strip() for match, _ in zip(_JAVA_FRAME.finditer(text), range(SHOWN_FRAMES), strict=False)
    )


def row_named(message: str) -> str:
    """Return the row that a message names, as it names it; empty where it names none."""
    for match in _NAMED_VALUE.finditer(message):
        name = match[1].lower()
        if name in _ROW_NAMES or name.endswith(("_id", "_key", "id")):
            return f"{match[1]}={match[2].rstrip('.:')}"
    counted = _COUNTED.search(message)
    return f"{counted[1].lower()}={counted[2]}" if counted else ""


def _first_line(text: str) -> str:
    return _cut(text.strip().partition("\n")[0])


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"
