"""Event logs as files: whole, rolled, in progress, cut, damaged, and things that are none."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import zstandard

from servers.spark import logfile
from servers.spark.diagnosis import diagnose
from servers.spark.engine import EngineError, NoApplication
from servers.spark.folder import FolderEngine
from servers.spark.sample import ensure_sample
from tests.servers.spark.logs import (
    FILES,
    OOM,
    SKEW,
    SPILLER,
    SUCCESS,
    UDF,
    VECTORS,
    lines_of,
    spilling,
    text_of,
    written,
)


def test_applications_come_newest_first_and_by_name(engine: FolderEngine) -> None:
    assert [a.id for a in engine.applications("", 9).applications] == [SPILLER, OOM, SKEW, UDF, SUCCESS]
    assert [a.name for a in engine.applications("R6-s", 9).applications] == ["r6-skew", "r6-success"]
    [skew] = engine.applications(SKEW, 9).applications
    assert (skew.duration, skew.user, skew.completed, skew.spark_version) == (20465, "root", True, "4.3.0")


def test_the_skew_figures_are_those_that_spark_shows(engine: FolderEngine) -> None:
    spreads = engine.run(SKEW).stages[1].spreads
    assert spreads is not None
    assert (spreads.run_time.median, spreads.run_time.maximum) == (138, 3810)
    assert (spreads.shuffle_read.median, spreads.shuffle_read.maximum) == (2_415_286, 190_946_414)


@pytest.mark.parametrize("app", FILES)
def test_compressed_or_not_and_in_several_frames_it_is_the_same(
    engine: FolderEngine, tmp_path: Path, app: str
) -> None:
    text = text_of(app)
    compress = zstandard.ZstdCompressor(write_content_size=False).compress
    forms = {
        "plain": text,
        "plain-name.zstd": text,
        "frames.zstd": b"".join(compress(text[i : i + 50_000]) for i in range(0, len(text), 50_000)),
        "no-suffix": compress(text),
        "windows": text.replace(b"\n", b"\r\n"),
        "no-last-newline": text.rstrip(b"\n"),
        "spaced": b"\n".join(json.dumps(json.loads(line)).encode() for line in text.splitlines()),
    }
    for name, form in forms.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(form)
        assert FolderEngine(tmp_path / name).run(app) == engine.run(app), name


def rolled(folder: Path, app: str, parts: dict[str, bytes], *, ended: bool = True) -> None:
    directory = folder / f"eventlog_v2_{app}"
    directory.mkdir(parents=True)
    (directory / f"appstatus_{app}{'' if ended else '.inprogress'}").touch()
    for name, content in parts.items():
        (directory / name).write_bytes(content)


def test_a_rolled_log_is_read_in_the_order_of_its_numbers(engine: FolderEngine, tmp_path: Path) -> None:
    lines = text_of(SKEW).splitlines(keepends=True)
    compress = zstandard.ZstdCompressor().compress
    parts = {
        f"events_{number}_{SKEW}.zstd": compress(b"".join(lines[start : start + 5]))
        for number, start in enumerate(range(0, len(lines), 5), start=1)
    }
    assert len(parts) > 10  # so that 10 sorts before 2 by name
    rolled(tmp_path, SKEW, parts)
    assert FolderEngine(tmp_path).run(SKEW) == engine.run(SKEW)


def test_a_compacted_part_stands_for_those_before_it(engine: FolderEngine, tmp_path: Path) -> None:
    lines = text_of(UDF).splitlines(keepends=True)
    parts = {
        f"events_1_{UDF}": b"garbage that was compacted away\n",
        f"events_2_{UDF}.compact": b"".join(lines[:12]),
        f"events_3_{UDF}": b"".join(lines[12:]),
        "notes.txt": b"not a part",
    }
    rolled(tmp_path, UDF, parts)
    assert FolderEngine(tmp_path).run(UDF) == engine.run(UDF)


def test_a_log_in_progress_is_incomplete_and_read_again_when_it_grew(tmp_path: Path) -> None:
    lines = text_of(UDF).splitlines(keepends=True)
    path = tmp_path / f"{UDF}.inprogress"
    path.write_bytes(b"".join(lines[:13]))
    engine = FolderEngine(tmp_path)
    assert engine.run(UDF).incomplete
    assert not engine.applications("", 1).applications[0].completed
    with path.open("ab") as grown:
        grown.writelines(lines[13:])
    assert not engine.run(UDF).incomplete
    path.rename(tmp_path / UDF)
    assert engine.applications("", 9).applications[0].completed
    assert diagnose(engine.run(UDF), partial(engine.tasks, engine.run(UDF))).verdict == "failed"


def test_garbage_lines_are_counted_and_left_out(engine: FolderEngine, tmp_path: Path) -> None:
    garbage = [
        b"",
        b"not json",
        b'{"Event":7}',
        b"[]",
        b"null",
        b'{"Event":"SparkListenerTaskEnd"',
        b"\x00\xff" * 50,
    ]
    garbage += [
        b'{"a":' * 3000,
        b"1" * 5000,
        b'{"Event":"SparkListenerTaskEnd","Task Info":[],"Stage ID":"x"}',
    ]
    lines = text_of(SKEW).splitlines()
    mixed = [line for pair in zip(lines, garbage * 6, strict=False) for line in pair] + lines[
        len(garbage) * 6 :
    ]
    (tmp_path / SKEW).write_bytes(b"\n".join(mixed) + b"\n")
    run = FolderEngine(tmp_path).run(SKEW)
    assert run.application.completed
    assert run.incomplete
    [note] = run.notes
    assert note.endswith("lines are no events; left out.")
    stage = next(stage for stage in run.stages if stage.id == 1)
    assert stage.spreads == engine.run(SKEW).stages[1].spreads


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"", "The log is empty."),
        (b"\n\n\n", "The log is empty."),
        (b"hello\nworld\n", "2 of 2 lines are no events"),
        (b"\x28\xb5\x2f\xfd" + b"\x00garbage" * 20, "damaged"),
        (bytes(range(11, 256)) * 20, "1 of 1 lines"),
        (b'{"Event":"SparkListenerLogSta', "middle of an event"),
    ],
)
def test_a_file_without_events_is_survived(tmp_path: Path, content: bytes, note: str) -> None:
    (tmp_path / "app-1.zstd").write_bytes(content)
    engine = FolderEngine(tmp_path)
    run = engine.run("app-1")
    assert any(note in said for said in run.notes), run.notes
    assert run.incomplete
    found = diagnose(run, partial(engine.tasks, run))
    assert (found.verdict, found.findings) == ("unknown", ())
    assert [a.id for a in engine.applications("", 5).applications] == ["app-1"]


def test_damage_in_the_middle_leaves_what_came_before(tmp_path: Path) -> None:
    frames = [zstandard.ZstdCompressor().compress(line + b"\n") for line in text_of(UDF).splitlines()]
    frames[16] = frames[16][:20] + b"\xff" * 40 + frames[16][60:]
    (tmp_path / UDF).write_bytes(b"".join(frames))
    engine = FolderEngine(tmp_path)
    run = engine.run(UDF)
    assert any("damaged" in note for note in run.notes)
    assert diagnose(run, partial(engine.tasks, run)).findings[0].kind == "python_exception"


def test_an_event_of_a_monstrous_size_is_left_out(
    engine: FolderEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "MAX_LINE", 1024**2)
    monster = b'{"Event":"SparkListenerTaskEnd","x":"' + b"y" * (3 * 1024**2) + b'"}\n'
    lines = text_of(SKEW).splitlines(keepends=True)
    (tmp_path / SKEW).write_bytes(b"".join([*lines[:20], monster, *lines[20:]]))
    run = FolderEngine(tmp_path).run(SKEW)
    assert run.notes == ("An event of more than 1 MiB was left out.",)
    assert run.stages == engine.run(SKEW).stages


def test_a_log_that_unpacks_to_too_much_is_read_in_part(tmp_path: Path) -> None:
    line = json.dumps({"Event": "SparkListenerLogStart", "Spark Version": "x" * 1000}).encode() + b"\n"
    text = text_of(UDF) + line * 20_000
    (tmp_path / f"{UDF}.zstd").write_bytes(zstandard.ZstdCompressor().compress(text))
    run = FolderEngine(tmp_path, max_log=4 * 1024**2).run(UDF)
    assert "The log is longer than 4 MiB; the rest was not read." in run.notes
    assert run.incomplete
    assert run.stages[0].failed == 1


def test_another_codec_is_named(tmp_path: Path) -> None:
    (tmp_path / "app-1.lz4").write_bytes(b"LZ4Block" + bytes(100))
    run = FolderEngine(tmp_path).run("app-1")
    assert "compressed with lz4" in run.notes[0]


def test_links_and_other_files_are_not_logs(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(text_of(UDF))
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    (folder / "README.md").write_text("# not a log\n")
    (folder / ".hidden").write_bytes(text_of(UDF))
    (folder / "subfolder").mkdir()
    engine = FolderEngine(folder)
    listing = engine.applications("", 9)
    assert listing.applications == ()
    assert listing.notes == ("No event logs, left out: README.md.",)
    for key in (UDF, "../secret", "link", ".hidden", ""):
        with pytest.raises(NoApplication):
            engine.run(key)


def test_attempts_are_told_apart(tmp_path: Path) -> None:
    for attempt in ("1", "2"):
        events = spilling("application_1_0001")
        events[2] |= {"App Attempt ID": attempt, "Timestamp": 1795390000000 + int(attempt) * 1000}
        path = tmp_path / f"application_1_0001_{attempt}"
        path.write_bytes(written(events))
        os.utime(path, (int(attempt), int(attempt)))
    engine = FolderEngine(tmp_path)
    keys = [a.key for a in engine.applications("", 9).applications]
    assert keys == ["application_1_0001/2", "application_1_0001/1"]
    assert engine.run("application_1_0001").application.attempt == "2"
    assert engine.run("application_1_0001/1").application.attempt == "1"


def test_secrets_among_the_properties_are_never_kept(engine: FolderEngine) -> None:
    run = engine.run(SPILLER)
    assert "spark.executor.memory" in run.properties
    assert "must-never-be-seen" not in repr(run)


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="No such file"):
        FolderEngine(tmp_path / "nowhere")


def test_the_sample_is_the_four_logs_and_comes_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "logs"
    assert ensure_sample(folder)
    assert not ensure_sample(folder)
    for app, name in FILES.items():
        assert (folder / f"{app}.zstd").read_bytes() == (VECTORS / f"{name}.zstd").read_bytes()
    assert len(list(folder.iterdir())) == len(FILES)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["logs"]


def test_a_task_may_end_without_anything(tmp_path: Path) -> None:
    """Every field of every event taken away in turn: nothing is raised."""
    for event in lines_of(OOM):
        for name in list(event):
            if name != "Event":
                less = {key: value for key, value in event.items() if key != name}
                other = {**event, name: {"unexpected": [1]}}
                (tmp_path / "log").write_bytes(written([less, other]))
                engine = FolderEngine(tmp_path)
                [application] = engine.applications("", 1).applications
                run = engine.run(application.key)
                diagnose(run, partial(engine.tasks, run))
