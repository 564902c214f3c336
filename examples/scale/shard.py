"""One worker of many. It makes the pictures of every N-th row of a table, skips those that are there, and may be killed at any time:
the same command again makes what is missing. Nothing is shared between workers but the folder they write to.

    shard.py sprites.csv out --shard 0/4                                    one of four workers
    seq 0 7 | parallel -j 2 shard.py sprites.csv out --shard {}/8           GNU parallel, two at a time
    shard.py sprites.csv out --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT --threads $SLURM_CPUS_PER_TASK

sprites.csv has a header, commas, and UTF-8. `id` names a row: unique, of letters, digits, '-' and '_'. Every other column is one of
COLUMNS, a field of a request as `softdimo.Engine.generate` takes it, and may be empty: label, prompt, seed, steps, temperature, ...

A picture is out/AB/ID-HASH.png. HASH is of the request and of the model file, so that a row that was changed, or another model, is
another picture, and AB its first two digits, so that a million files are 256 folders. Each has in its PNG text what made it
(`softdimo-row`), and the SHA-256 of its tokens, by which two machines compare: a pixel may differ in its last bit between two kinds
of processor. A row that cannot be made, as one with a label that the model does not know, is named at the end, and the others are
made. out/shard-I-of-N.json is written once the shard is complete.
"""
import argparse
import csv
import functools
import hashlib
import itertools
import json
import os
import platform
import re
import tempfile
import time
from pathlib import Path

import softdimo
from tqdm import tqdm

# What is wrong with a row, not with the machine.
OF_A_ROW = (softdimo.InvalidArgumentError, softdimo.UnknownLabelError, softdimo.UnsupportedError)
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# Beside `id`.
COLUMNS = {
    **dict.fromkeys(["label", "prompt", "negative_prompt"], str),
    **dict.fromkeys("seed steps top_k class_labels original_width original_height crop_left crop_top".split(), int),
    **dict.fromkeys("temperature top_p mask_ratio sigma guidance_scale randomize_temperature aesthetic_score".split(), float),
}
KINDS = {int: "a whole number", float: "a number"}


def check_columns(names):
    if "id" not in names:
        raise ValueError(f"expected an id in a column of that name, found the columns {', '.join(map(repr, names)) or None}")
    for name in names:
        if name != "id" and name not in COLUMNS:
            raise ValueError(f"column {name!r}: expected id or one of {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise ValueError(f"column {name!r}: expected one of this name, found {names.count(name)}")


def parse(row, line):
    """The id and the request of a row of the table."""
    name = row.pop("id")
    if not name or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ValueError(f"line {line}: expected an id of 1 to 64 letters, digits, '-' and '_', found {name!r}")
    if None in row or None in row.values():
        raise ValueError(f"line {line}: expected as many columns as the header has")
    request = {}
    for field, text in row.items():
        try:
            if text != "":
                request[field] = COLUMNS[field](text)
        except ValueError:
            raise ValueError(f"line {line}: {field}: expected {KINDS[COLUMNS[field]]}, found {text!r}") from None
    return name, request


def rows(table, shard, of):
    """Ids and requests of the rows of a shard."""
    with open(table, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin it with a byte order mark
        reader = csv.DictReader(file)
        check_columns(list(reader.fieldnames or ()))
        for row in itertools.islice(reader, shard, None, of):
            yield parse(row, reader.line_num)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def is_there(path):
    """Whether a picture is, to its end: what came here by a copy that was interrupted, or lost its bytes with the power, is none."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def place(out, name, request, model):
    """Where the picture of a row is."""
    digest = hashlib.sha256(canonical([request, model]).encode()).hexdigest()[:16]
    return out / digest[:2] / f"{name}-{digest}.png"


def tokens_hash(job):
    """Of the tokens of its picture."""
    return hashlib.sha256(job.tokens().astype("<u4").tobytes()).hexdigest()


def write(job, row, path):
    """Wait for a picture and write it: it is there whole or not at all, whenever this process or the machine ends."""
    picture = job.result()
    made = {**row, "tokens": tokens_hash(job), "made": {**machine(), "runtime": picture.report["runtime"]}}
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, text={"softdimo-row": canonical(made)})


@functools.cache
def machine():
    return {"library": softdimo.__version__, "host": platform.node(), "cpu": processor()}


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_whole(path, text):
    """A small file that is there whole or not at all."""
    # Not by the process's number, which another machine's may have as well.
    number, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(number, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def shard_of(text):
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, found {text!r}")
    return int(match[1]), int(match[2])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("table", type=Path, help="CSV file with a header, UTF-8")
    arguments.add_argument("out", type=Path, help="folder for the pictures; made where there is none")
    arguments.add_argument("--shard", type=shard_of, default=(0, 1), metavar="I/N", help="default: 0/1, all rows")
    arguments.add_argument("--model", type=Path, default=softdimo.BUNDLED_MODEL, help="default: the bundled one")
    arguments.add_argument("--threads", type=int, default=1, help="that compute a picture; default: 1, with a worker for each core")
    args = arguments.parse_args()
    (shard, of), began, made, there, wrong = args.shard, time.time(), 0, 0, []
    try:
        todo = list(rows(args.table, shard, of))  # a wrong row is found before the first picture
    except (OSError, ValueError, csv.Error) as why:
        raise SystemExit(f"{args.table}: {why}") from None
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        engine = softdimo.Engine.open(args.model, threads=args.threads)  # which reads nothing but a file
        model = sha256(args.model)
    except (OSError, softdimo.Error) as why:
        raise SystemExit(str(why)) from None
    with engine:
        for name, request in tqdm(todo, desc=f"shard {shard}/{of}", unit=" pictures", disable=None):
            path = place(args.out, name, request, model)
            if is_there(path):
                there += 1
                continue
            try:
                job = engine.submit(**request)
            except OF_A_ROW as why:  # what goes wrong later is the machine's
                wrong.append(f"row {name}: {why}")
                continue
            with job:
                write(job, {"id": name, "request": request, "model": model}, path)
            made += 1
    if wrong:
        raise SystemExit("\n".join([*wrong, f"shard {shard}/{of}: {made} made, {there} were there, {len(wrong)} could not be made"]))
    summary = {"rows": made + there, "made": made, "were_there": there, "seconds": round(time.time() - began, 3), "model": model}
    write_whole(args.out / f"shard-{shard}-of-{of}.json", json.dumps({**summary, **machine()}, indent=2) + "\n")
    print(f"shard {shard}/{of}: {made} made, {there} were there, {summary['seconds']} s")


if __name__ == "__main__":
    main()
