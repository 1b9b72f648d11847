"""What a lock file says, as OpenClaw reads it and as we read it."""

import json

import pytest

from supervisor.lock.contents import MOST_BYTES, Contents, OurPart, OwnedBy, parse, payload
from supervisor.owner import this_process


def test_a_lock_has_openclaws_keys_first_and_is_indented_by_two() -> None:
    raw = payload(created_unix=1_767_225_600.123, max_hold_s=1020.0, nonce="ab12")
    assert list(json.loads(raw)) == ["pid", "createdAt", "maxHoldMs", "starttime", "turnkeeper"]
    assert raw.decode() == json.dumps(json.loads(raw), indent=2) + "\n"


def test_a_lock_names_its_process_its_boot_its_host_and_a_nonce() -> None:
    shape = json.loads(payload(created_unix=1_767_225_600.123, max_hold_s=1020.0, nonce="ab12"))
    me = this_process()
    assert (shape["pid"], shape["starttime"]) == (me.pid, me.starttime)
    assert (shape["createdAt"], shape["maxHoldMs"]) == ("2026-01-01T00:00:00.123Z", 1_020_000)
    ours = shape["turnkeeper"]
    assert (ours["owner"], ours["bootId"], ours["host"]) == ("process", me.boot_id, me.host)
    assert ours["nonce"] == "ab12"


def test_what_is_written_is_read_back() -> None:
    me = this_process()
    read = parse(payload(created_unix=0.0, max_hold_s=1.0, nonce="ab12"))
    ours = OurPart(
        OwnedBy.PROCESS,
        me.boot_id,
        me.host,
        gone=False,
        pid_namespace=me.pid_namespace,
        init_start=me.init_start,
        cgroup=me.cgroup,
    )
    assert read == Contents(me.pid, me.starttime, "1970-01-01T00:00:00.000Z", ours)


def test_openclaws_lock_is_read() -> None:
    raw = (
        b'{\n  "pid": 5793,\n  "createdAt": "2026-11-24T03:23:55.853Z",\n'
        b'  "maxHoldMs": 1020000,\n  "starttime": 95849\n}\n'
    )
    assert parse(raw) == Contents(5793, 95849, "2026-11-24T03:23:55.853Z", None)


def test_a_foreign_lock_without_a_start_time_is_read() -> None:
    assert parse(b'{"pid": 5793}') == Contents(5793, None, "", None)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (b'{\n  "pid": 5793,\n  "crea', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"5" * 5_000, "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "names no process"),
        (b'{"pid": "5793"}', "names no process"),
        (b'{"pid": true}', "names no process"),
        (b'{"pid": 0}', "names no process"),
        (b'{"pid": -1}', "names no process"),
        (b'{"pid": 5000000}', "names no process"),
        (b'{"pid": 1.5}', "names no process"),
        (b'{"pid": 7, "starttime": "x"}', "starttime"),
        (b'{"pid": 7, "starttime": false}', "starttime"),
        (b'{"pid": 7, "turnkeeper": 1}', "turnkeeper table"),
        (b'{"pid": 7, "turnkeeper": {"owner": "nobody", "bootId": "", "host": ""}}', "does not say whose"),
        (b'{"pid": 7, "turnkeeper": {"owner": ["process"], "bootId": "", "host": ""}}', "does not say whose"),
        (b'{"pid": 7, "turnkeeper": {"owner": "process", "host": "h"}}', "does not say whose"),
        (b'{"pid": 7}' + b" " * MOST_BYTES, "larger than 64 KiB"),
    ],
)
def test_a_file_that_names_nobody_says_why(raw: bytes, why: str) -> None:
    read = parse(raw)
    assert isinstance(read, str)
    assert why in read


@pytest.mark.parametrize(
    ("word", "gone"), [('"gone": null', False), ('"gone": {"status": 0}', True), ('"x": 1', False)]
)
def test_a_wardens_last_word_is_read(word: str, *, gone: bool) -> None:
    read = parse(f'{{"pid": 7, "turnkeeper": {{"owner": "warden", "bootId": "b", "host": "h", {word}}}}}'.encode())
    assert isinstance(read, Contents)
    assert read.ours == OurPart(OwnedBy.WARDEN, "b", "h", gone)


def test_a_table_of_ours_that_says_more_is_read() -> None:
    read = parse(b'{"pid": 7, "later": 1, "turnkeeper": {"owner": "process", "bootId": "b", "host": "h", "new": []}}')
    assert isinstance(read, Contents)
