"""Times the library against its peers on one model file: every peer in a process of its own, run by run in turn.

usage: compare.py FOLDER PROGRAM [--threads 1,2] [--rounds N] [--only WORDS] [--json]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from importlib.metadata import version

from peers import OURS, PEERS, Files

# Seconds in which a peer must have opened, compiled and run once.
PATIENCE = 900
PARTS = ["student", "decoder", "picture"]
FLAGS = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "bf16", "i8mm"]
HERE = os.path.dirname(os.path.abspath(__file__))


class Worker:
    """A peer's process. One that fails has `failure` instead of answers."""

    def __init__(self, folder, name, precision, threads):
        self.name, self.precision, self.threads = name, precision, threads
        self.failure, self.runs, self.memory = None, [], None
        self.log = os.path.join(folder, f"{name}-{precision}-{threads}.log".replace(" ", "_"))
        command = [sys.executable, os.path.join(HERE, "worker.py"), folder, name, precision, str(threads)]
        with open(self.log, "w") as log:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)
        self.ready = self.answer()

    def answer(self):
        """Its next line; None once it has failed."""
        if self.failure:
            return None
        clock = threading.Timer(PATIENCE, self.process.kill)
        clock.start()
        line = self.process.stdout.readline()
        late = not clock.is_alive()
        clock.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        with open(self.log) as log:
            errors = [line.strip() for line in log if "Error" in line] or ["it says nothing"]
        self.failure = f"not ready after {PATIENCE} s" if late else errors[-1]
        return None

    def ask(self, what):
        if not self.failure:
            try:
                self.process.stdin.write(what + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # the answer says why
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cpu():
    with open("/proc/cpuinfo") as file:
        fields = dict(map(str.strip, line.split(":", 1)) for line in file if ":" in line)
    has = fields.get("flags", fields.get("Features", "")).split()
    return f"{fields.get('model name', 'unknown')} ({' '.join(flag for flag in FLAGS if flag in has)})"


def peaks(folder):
    """What a core can multiply at most, in GOP/s by precision: peak.c. Empty where it was not built for this processor."""
    program = os.path.join(folder, "peak")
    if not os.path.exists(program):
        return {}
    return json.loads(subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout)


def operations(program, files):
    """Multiplications and additions of a picture, in G: those of student and decoder as this library computes them in int8."""
    command = [program, "bench", "generate", "--model", files.ours("int8-all"), "--runs", "1", "--rounds", "1", "--json"]
    run = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["combinations"][0]
    return {part: run["networks"][name]["gflop"] for part, name in (("student", "student"), ("decoder", "decode (hard)"))}


def measure(folder, chosen, threads, rounds):
    """A worker for each peer, all open at once, that take turns."""
    workers = []
    for name, precision in chosen:
        print(f"opening {name} {precision}, {threads} threads", file=sys.stderr)
        workers.append(Worker(folder, name, precision, threads))
    for index in range(rounds):
        for worker in workers:
            answer = worker.ask("run")
            if answer:
                worker.runs.append(answer)
        print(f"round {index + 1} of {rounds}", file=sys.stderr)
    for worker in workers:
        worker.memory = worker.ask("memory")
        worker.close()
    return workers


def median(worker, part):
    return statistics.median(run[part] for run in worker.runs)


def ratio(worker, best, part):
    """Median over rounds of its time over the best peer's of the same round: what both suffer from cancels out."""
    return statistics.median(own[part] / other[part] for own, other in zip(worker.runs, best.runs))


def ours(program, files):
    """What `softdimo verify` finds between the library and PyTorch in f32, by storage: relative L2 and largest difference."""
    found = {}
    for storage in ("f32", "f16", "int8", "int8-all"):
        command = [program, "verify", files.ours(storage), files.at("golden.safetensors"), "--json"]
        rows = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=storage == "f32").stdout)["rows"]
        rows = {row["name"].split("/")[-1]: row for row in rows}
        names = {"logits": "logits_clean", "image": "image_hard"}
        found[storage] = {what: rows[name]["relative"] for what, name in names.items()}
        if storage == "f32":
            found["largest"] = {what: rows[name]["max_abs"] for what, name in names.items()}
    return found


def summaries(workers, accuracy):
    measured = [w for w in workers if w.runs and not w.failure]
    peers = [w for w in measured if w.name != OURS]
    best = {part: min(peers, key=lambda w: median(w, part)) for part in PARTS} if peers else {}
    for worker in workers:
        row = {"name": worker.name, "precision": worker.precision, "threads": worker.threads, "failure": worker.failure}
        if worker in measured:
            errors = worker.ready["errors"] or accuracy[worker.precision.split()[0]]
            row.update(opened=worker.ready["opened"], first=worker.ready["first"], errors=errors, runs=worker.runs)
            row.update(worker.memory, medians={part: median(worker, part) for part in PARTS})
            row["ratios"] = {part: ratio(worker, best[part], part) for part in PARTS if best}
        yield row


def markdown(rows):
    head = "| | precision | open | first picture | student | decoder | picture | student × | decoder × | picture × | RssAnon | logits | image |"
    yield head
    yield "|---|---|" + "--:|" * (head.count("|") - 3)
    for row in rows:
        if row["failure"]:
            yield f"| {row['name']} | {row['precision']} | did not run: {row['failure']} |" + " |" * (head.count("|") - 4)
            continue
        cells = [row["name"], row["precision"], f"{row['opened'] / 1e3:.2f} s", f"{row['first'] / 1e3:.2f} s"]
        cells += [f"{row['medians'][part]:.0f} ms" for part in PARTS]
        cells += [f"{row['ratios'][part]:.2f}" if row["ratios"] else "–" for part in PARTS]
        cells += [f"{row['anonymous']:.0f} MiB", *(f"{row['errors'][what]:.1e}" for what in ("logits", "image"))]
        yield "| " + " | ".join(cells) + " |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder")
    arguments.add_argument("program")
    arguments.add_argument("--threads", default="1,2", type=lambda text: [int(n) for n in text.split(",")])
    arguments.add_argument("--rounds", default=5, type=int)
    arguments.add_argument("--only", default="", help="comma-separated; peers whose name and precision hold one of these")
    arguments.add_argument("--json", action="store_true")
    args = arguments.parse_args()
    files = Files(args.folder)
    chosen = [p for p in PEERS if any(word in " ".join(p) for word in args.only.split(","))]
    if not chosen:
        arguments.error(f"--only {args.only}: expected words of {[' '.join(p) for p in PEERS]}")
    accuracy = ours(args.program, files)
    machine = {"cpu": cpu(), "cores": os.cpu_count(), "peak": peaks(args.folder)}
    work = operations(args.program, files)
    packages = {name: version(name) for name in ("torch", "onnxruntime", "openvino", "nncf")}
    rows = []
    for threads in args.threads:
        rows += summaries(measure(args.folder, chosen, threads, args.rounds), accuracy)
    if args.json:
        document = {"machine": machine, "packages": packages, "rounds": args.rounds, "largest": accuracy["largest"], "gflop": work}
        print(json.dumps({**document, "peers": rows}))
        return
    print(f"{machine['cpu']}, {machine['cores']} cores; " + ", ".join(f"{k} {v}" for k, v in packages.items()))
    largest = accuracy["largest"]
    print(f"softdimo f32 against PyTorch f32: logits {largest['logits']:.1e}, picture {largest['image']:.1e} at most")
    print(f"a picture is {work['student']:.0f} + {work['decoder']:.0f} G operations (student, decoder); a core of this processor does at most")
    for precision, rate in machine["peak"].items():
        print(f"  {rate:.0f} G a second in {precision}, a picture in {sum(work.values()) / rate * 1e3:.0f} ms")
    for threads in args.threads:
        print(f"\n{threads} thread{'s' if threads > 1 else ''}, batch 1, medians of {args.rounds} rounds\n")
        print("\n".join(markdown([row for row in rows if row["threads"] == threads])))


if __name__ == "__main__":
    main()
