"""examples/scale/shard.py: workers and whatever started them are killed and started again; what is there in the end is complete, and
the same as after a run that nothing happened to."""
import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest

SHARD = Path(__file__).parents[2] / "examples" / "scale" / "shard.py"
ROWS = 240
SHARDS = 8
# Starts all workers, two at a time, as GNU parallel would.
DRIVER = f"seq 0 {SHARDS - 1} | xargs -P 2 -I@ {sys.executable} {SHARD} table.csv out --shard @/{SHARDS}"


def table(folder, text=None):
    labels = ["red apple", "rocket", "dog", "cat"]
    rows = [f"sprite-{i},{labels[i % 4]},{i * 7},{'' if i % 5 else '0.5'}\n" for i in range(ROWS)]
    (folder / "table.csv").write_text(text or "id,label,seed,temperature\n" + "".join(rows))


def run(folder, *options, code=0):
    done = subprocess.run([sys.executable, SHARD, "table.csv", "out", *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def pictures(folder):
    """Bytes by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / "out").glob("??/*.png")}


def members(group):
    """Processes of a group, with their programs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(of) == group and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().partition("\0")[0]
        except OSError:
            pass  # it has ended
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    table(folder)
    said = run(folder)
    assert f"{ROWS} made, 0 were there" in said
    return folder


def test_pictures_say_what_made_them(undisturbed):
    names = pictures(undisturbed)
    assert len(names) == ROWS
    ids = collections.Counter()
    tokens = set()
    for name in names:
        with PIL.Image.open(undisturbed / name) as picture:
            assert picture.size == (32, 32) and len(picture.convert("RGB").getcolors(4096)) > 20
            row = json.loads(picture.text["softdimo-row"])
        ids[row["id"]] += 1
        tokens.add(row["tokens"])
        assert Path(name).name.startswith(row["id"] + "-")
        assert {"label", "seed"} <= row["request"].keys() and {"library", "runtime", "cpu"} <= row["made"].keys()
    assert ids == {f"sprite-{i}": 1 for i in range(ROWS)}
    # The bundled model sometimes makes one picture of two seeds.
    assert len(tokens) > 0.8 * ROWS
    summary = json.loads((undisturbed / "out" / "shard-0-of-1.json").read_text())
    assert summary["rows"] == ROWS and len(summary["model"]) == 64


def test_killed_at_any_time(undisturbed, tmp_path):
    table(tmp_path)
    kills = 0
    for kill in ("worker", "all", "worker", "all", "driver", "driver"):
        before = len(pictures(tmp_path))
        driver = subprocess.Popen(DRIVER, shell=True, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
        # In the middle of it, wherever each worker is. Those of a driver that was killed make pictures too.
        workers = []
        while not workers or len(pictures(tmp_path)) < before + 5:
            assert driver.poll() is None
            time.sleep(0.01)
            # The shell, xargs and the workers.
            group = members(driver.pid)
            workers = [pid for pid, program in group.items() if program == sys.executable]
        assert len(group) >= len(workers) + 2
        victims = {"worker": workers[:1], "driver": group.keys() - set(workers), "all": group}[kill]
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
        # The others go on without it.
        there = len(pictures(tmp_path))
        while kill == "worker" and len(pictures(tmp_path)) < there + 5:
            assert driver.poll() is None
            time.sleep(0.01)
        # After a driver was killed its workers go on, beside those of the next one.
        if kill != "driver":
            try:
                os.killpg(driver.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        driver.wait()
    assert kills >= 6 and len(pictures(tmp_path)) < ROWS
    subprocess.run(DRIVER, shell=True, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    whole = pictures(undisturbed)
    found = pictures(tmp_path)
    assert found.keys() == whole.keys()
    # On one machine to the byte.
    assert found == whole
    assert "0 made" in run(tmp_path)


def test_another_request_is_another_picture(undisturbed, tmp_path):
    table(tmp_path, "id,label,seed\na,rocket,1\n")
    run(tmp_path)
    first = pictures(tmp_path)
    table(tmp_path, "id,label,seed\na,rocket,2\n")
    assert "1 made" in run(tmp_path)
    assert len(pictures(tmp_path)) == 2 and first.items() <= pictures(tmp_path).items()


@pytest.mark.parametrize("text, words", [
    ("label\nrocket\n", "expected an id"),
    ("id,label\n../x,rocket\n", "found '../x'"),
    ("id;label\na;rocket\n", "found the columns 'id;label'"),
    ("id,label,seed\na,rocket,many\n", "seed: expected a whole number, found 'many'"),
    ("id,label,temperature\na,rocket,hot\n", "temperature: expected a number, found 'hot'"),
    ("id,label,size\na,rocket,64\n", "column 'size'"),
    ("id,label\na,rocket,3\n", "as many columns as the header"),
    ("id,label,colour\na,rocket,red\n", "column 'colour': expected id or one of label"),
    ("id,label,batch\na,rocket,2\n", "column 'batch'"),
    ("id,label,label\na,rocket,dog\n", "column 'label': expected one"),
    ("id,label\na," + "x" * 200_000, "field larger than"),
])
def test_tables_that_are_wrong(tmp_path, text, words):
    table(tmp_path, text)
    said = run(tmp_path, code=1)
    assert words in said and "Traceback" not in said
    assert not pictures(tmp_path)


def test_rows_that_cannot_be_made_are_named(tmp_path):
    # The last is a model's that reads prompts.
    table(tmp_path, "id,label,seed,crop_left\na,rocket,1,\nb,rokcet,1,\nc,rocket,-1,\nd,a\0b,1,\ne,dog,1,\nf,dog,1,7\ng,dog,18446744073709551616,\n")
    said = run(tmp_path, code=1)
    assert "row b:" in said and "rocket" in said and "2 made" in said and "5 could not be made" in said
    assert "row c: seed: expected 0 to" in said and "row g: seed: expected 0 to" in said
    assert "row d: label:" in said and "row f: " in said
    assert len(pictures(tmp_path)) == 2 and not list((tmp_path / "out").glob("shard-*"))


def test_tables_of_spreadsheets(tmp_path):
    table(tmp_path, "\ufeffid,label\r\na,rocket\r\n")
    assert "1 made" in run(tmp_path)


def test_what_is_there_in_part_is_made_again(undisturbed, tmp_path):
    table(tmp_path)
    whole = pictures(undisturbed)
    for number, (name, data) in enumerate(whole.items()):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: [0, 10, len(data) - 1][number]] if number < 3 else data)
    assert "3 made" in run(tmp_path) and pictures(tmp_path) == whole


@pytest.mark.parametrize("options, words", [
    (["--model", "/nowhere"], "'/nowhere' not found"),
    (["--model", "pipe"], "expected a regular file"),
    (["--threads", "-1"], "threads"),
])
def test_what_cannot_be_opened(tmp_path, options, words):
    table(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    said = run(tmp_path, *options, code=1)
    assert words in said and "Traceback" not in said


def test_shards_that_make_no_sense(tmp_path):
    table(tmp_path)
    for shard in ("4/4", "x", "-1/2", "1"):
        assert "expected I/N" in run(tmp_path, f"--shard={shard}", code=2)
